"""The command line."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

from .setting import DEVICES, PRECISIONS
from .shape import SMOKE, Shape, shape_of
from .systems import ALL

_DESCRIPTION = """\
Trains the same GPT, from one seed, with Orlop and with what else people use, in turn on the same cores and directory.

Systems: torch's AdamW in memory; states in mapped files; DeepSpeed with its defaults; DeepSpeed tuned on this machine;
Orlop with no tuning. DeepSpeed comes from PyPI into .cache/peers beside the checkout, once; some of it is compiled
there. A case is a place for optimizer states, one for parameters, and a precision; its systems run side by side, one
step of each in turn. Where one fails, its message stands in its row."""

_EPILOG = """\
Columns: seconds per step (median, fastest and slowest), of these forward, backward and optimizer; bytes read from and
written to the drive per parameter and step, and peak memory, all by the kernel's accounting; how many times as long as
Orlop's step; Orlop's memory as a part of its; how far its losses are from Orlop's.

Examples:
  ./dev bench peers --nvme_path /local_nvme                           everything: an hour or two
  ./dev bench peers --nvme_path /local_nvme --smoke                   a tiny model, to see that all of it works
  ./dev bench peers --nvme_path /data --optimizer none nvme --parameters none --precision bf16

Exit status: 0, also when a system fails; 1 after an error of its own, with one sentence; 2 for a wrong command line;
130 after Ctrl-C. Nothing is left in nvme_path, even after a kill."""


@dataclass(frozen=True)
class Options:
    nvme_path: Path
    shape: Shape
    optimizers: list[str]
    parameters: list[str]
    precisions: list[str]
    systems: list[str]
    steps: int
    warm_up: int
    seed: int
    threads: int
    memory_bytes: float
    drive_bytes: float
    patience: float
    deepspeed: str
    json: Path | None
    write_docs: bool


def size(text: str) -> float:
    """ "300M" -> 3e8."""
    units = {"K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    try:
        value = float(number) * (units[unit] if unit else 1)
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write a number, or one with K, M or G") from None
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above zero")
    return value


def count(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above zero")
    return int(text)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="./dev bench peers",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--nvme_path", type=Path, required=True, help="a directory on the drive to use")
    add("--params", type=size, default=300e6, help="of the model (300M); fewer layers where memory or disk are short")
    add("--tokens", type=count, default=64, help="per step, one sequence (64)")
    add("--smoke", action="store_true", help="a model of 0.5 M parameters, two steps: shows that it works, no figures")
    add("--optimizer", nargs="+", choices=DEVICES, default=list(DEVICES), help="places of optimizer states")
    add(
        "--parameters", nargs="+", choices=DEVICES, default=list(DEVICES), help="places of parameters; none: the device"
    )
    add("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    add("--systems", nargs="+", choices=ALL, default=list(ALL), metavar="SYSTEM", help=" | ".join(ALL))
    add("--steps", type=count, default=7, help="measured, of each system in each case (7)")
    add("--warm_up", type=count, default=2, help="steps before these (2)")
    add("--seed", type=int, default=0, help="of parameters and data (0)")
    add(
        "--threads",
        type=count,
        default=len(os.sched_getaffinity(0)),
        help="for arithmetic, of every system (all cores)",
    )
    add("--memory", type=size, default=12e9, help="at most so many bytes by all that run side by side (12G)")
    add("--disk", type=size, default=20e9, help="and on the drive (20G)")
    add("--patience", type=size, default=900, help="seconds to wait for one step or start before a system fails (900)")
    add("--deepspeed", default="deepspeed", metavar="REQUIREMENT", help="what pip installs (deepspeed, the newest)")
    add("--json", type=Path, metavar="FILE", help="write every sample, trial and message")
    add("--write_docs", action="store_true", help="put the tables into docs/performance.md and README.md")
    return made


def parse(words: list[str] | None = None) -> Options:
    given = parser().parse_args(words)
    return Options(
        nvme_path=given.nvme_path.resolve(),
        shape=SMOKE if given.smoke else shape_of(given.params, given.tokens),
        optimizers=given.optimizer,
        parameters=given.parameters,
        precisions=given.precision,
        systems=[system for system in ALL if system in given.systems],
        steps=2 if given.smoke else given.steps,
        warm_up=1 if given.smoke else given.warm_up,
        seed=given.seed,
        threads=given.threads,
        memory_bytes=given.memory,
        drive_bytes=given.disk,
        patience=given.patience,
        deepspeed=given.deepspeed,
        json=given.json,
        write_docs=given.write_docs,
    )
