"""`ds_report`: what this overlay, the engine beneath it and the machine offer, as it is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from orlop import __version__ as orlop_version
from orlop import build_info

from ._version import __version__
from .accelerator import get_accelerator
from .ops import __compatible_ops__


def command() -> None:
    """The command `ds_report`."""
    cli_main()


def cli_main() -> None:
    main()


def main(hide_operator_status: bool = False, hide_errors_and_warnings: bool = False) -> None:
    """Prints the report."""
    lines = [*_packages()]
    lines += [] if hide_operator_status else _offered()
    lines += [] if hide_errors_and_warnings else _notes()
    width = max(len(name) for name, _ in lines)
    print("Orlop under DeepSpeed's names: this is not DeepSpeed")
    for name, value in lines:
        print(f"{name.ljust(width)}  {value}")


def _packages() -> list[tuple[str, str]]:
    built = build_info()
    return [
        ("interface", f"DeepSpeed {__version__} ({Path(__file__).parent})"),
        ("engine", f"Orlop {orlop_version} ({built['compiler']})"),
        ("torch", f"{torch.__version__}, CUDA {torch.version.cuda or 'left out'}"),
        ("python", f"{sys.version.split()[0]} ({sys.executable})"),
        ("accelerator", f"{get_accelerator()._name}, {get_accelerator().device_count()} device(s)"),
    ]


def _offered() -> list[tuple[str, str]]:
    """What DeepSpeed compiles as operators, and what stands for them here."""
    built = build_info()
    queues = built["queues"]
    return [
        *((name, "yes" if works else "no: Orlop does not have it") for name, works in __compatible_ops__.items()),
        ("io_uring", "yes" if "uring" in queues else "no: left out of the build, or forbidden here"),
        ("libaio", "yes" if "libaio" in queues else "no: left out of the build"),
        ("NVMe offload", f"yes: any directory on a drive; queues {', '.join(queues)}"),
        ("host kernels", built["isa"]),
        ("CUDA", _cuda(bool(built["cuda"]))),
    ]


def _cuda(is_built_in: bool) -> str:
    if not is_built_in:
        return "no: the engine was built without it"
    return "yes" if torch.cuda.is_available() else "no: built in, but there is no GPU that torch can use"


def _notes() -> list[tuple[str, str]]:
    asked = sorted(name for name in os.environ if name.startswith("DS_BUILD_"))
    notes = [(name, "noted: nothing is compiled here, all of it is in the engine's library") for name in asked]
    return [*notes, ("more", "orlop doctor says what is wrong with a machine, and measures drives")]


if __name__ == "__main__":
    main()
