"""The overlay in a Python environment for good: what `orlop compat enable` writes and `orlop compat disable` removes.

A file `orlop-compat.pth` in site-packages names the folders that every interpreter of the environment then has on its
path. Such folders come after site-packages itself, so a DeepSpeed installed there is found first; with `shadow` the
file puts them before everything instead.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from ..errors import BusyError
from ._overlay import LABEL, OVERLAY, folders, write
from ._scripts import scripts_in, write_scripts

_SITE = Path(sysconfig.get_path("purelib"))
_COMMANDS = Path(sysconfig.get_path("scripts"))
_PTH = _SITE / "orlop-compat.pth"
_METADATA = _SITE / "orlop-compat"  # of a version that is not the overlay's own


@dataclass(frozen=True)
class Status:
    """Of this interpreter's environment."""

    site_packages: Path
    file: Path | None  # what `enable` wrote
    version: str | None  # of the `deepspeed` that programs find, "+orlop" at the end of Orlop's
    installed: str | None  # a DeepSpeed that is installed: its version and where it is
    commands: list[Path]  # of Orlop's


def enable(version: str | None = None, shadow: bool = False) -> list[Path]:
    """Lets every program of this interpreter's environment find Orlop under DeepSpeed's names.

    version: of DeepSpeed, to be claimed; shadow: even if a DeepSpeed is installed, which is then hidden.

    Returns what was written. Raises BusyError when a DeepSpeed is installed, NoPermissionError when the environment
    cannot be written.
    """
    installed = _installed()
    if installed and not shadow:
        raise BusyError(
            f"compat enable: on {_SITE}: DeepSpeed {installed} is installed, and what a .pth file adds comes after "
            "site-packages: pip uninstall deepspeed, or give --shadow, which hides it until `orlop compat disable`"
        )
    shutil.rmtree(_METADATA, ignore_errors=True)
    added = [*map(str, folders(version, _METADATA)), *_package_folder()]
    lines = [f"import sys; sys.path[0:0] = {added!r}"] if shadow else added
    write(_PTH, "\n".join(lines) + "\n")
    return [_PTH, *write_scripts(_COMMANDS)]


def disable() -> list[Path]:
    """Undoes `enable`; gives what it removed."""
    removed = [file for file in (_PTH, *scripts_in(_COMMANDS)) if file.exists()]
    for file in removed:
        file.unlink()
    shutil.rmtree(_METADATA, ignore_errors=True)
    return removed


def status() -> Status:
    """How this interpreter's environment is set up."""
    try:
        version = importlib.metadata.version("deepspeed")
    except importlib.metadata.PackageNotFoundError:
        version = None
    return Status(_SITE, _PTH if _PTH.is_file() else None, version, _installed(), scripts_in(_COMMANDS))


def _installed() -> str | None:
    """The version and place of a DeepSpeed that is not ours."""
    for found in importlib.metadata.distributions(name="deepspeed"):
        if not found.version.endswith(LABEL):
            return f"{found.version} ({found.locate_file('')})"
    return None


def _package_folder() -> list[str]:
    """The folder that Orlop itself is in, where site-packages does not have it: a checkout."""
    folder = OVERLAY.parents[2]
    return [] if folder in (_SITE, Path(sysconfig.get_path("platlib"))) else [str(folder)]
