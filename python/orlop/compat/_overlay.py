"""Where the overlay is, and which version of DeepSpeed its metadata names.

The overlay's folder holds a package `deepspeed` and the metadata of the version that it was written for. Another
version is a folder with metadata alone, before it on the path: programs that ask for a version find that one first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import InvalidArgumentError, NoPermissionError

OVERLAY = Path(__file__).resolve().parent / "overlay"
LABEL = "+orlop"  # the local part of every version that is claimed: what tells it from DeepSpeed's own


def default_version() -> str:
    """The version in the overlay's own metadata."""
    (folder,) = OVERLAY.glob("deepspeed-*.dist-info")
    return folder.name.removeprefix("deepspeed-").removesuffix(".dist-info")


def labelled(version: str) -> str:
    """A version as the metadata says it: "0.16.8" is "0.16.8+orlop"."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version.removesuffix(LABEL)):
        raise InvalidArgumentError(
            f'deepspeed version: "{version}": must be three numbers, as in "{default_version().removesuffix(LABEL)}"'
        )
    return version.removesuffix(LABEL) + LABEL


def folders(version: str | None = None, metadata: Path | None = None) -> list[Path]:
    """What goes on the path, in this order.

    version: of DeepSpeed, to be claimed; None: the overlay's own.
    metadata: the folder for another version's metadata; None: one in the user's cache.
    """
    if version is None or labelled(version) == default_version():
        return [OVERLAY]
    wanted = labelled(version)
    folder = metadata or cache() / f"deepspeed-{wanted}"
    _write_metadata(folder, wanted)
    return [folder, OVERLAY]


def cache() -> Path:
    """Where Orlop keeps what it can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "orlop"


def joined(folders: Iterable[Path], rest: str | None) -> str:
    """A variable like PATH with folders put first, each once."""
    first = [str(folder) for folder in folders]
    return os.pathsep.join(first + [part for part in (rest or "").split(os.pathsep) if part and part not in first])


def write(file: Path, text: str, mode: int = 0o644) -> None:
    """Writes a small file whole, unless it is there already; other processes may do the same."""
    if file.is_file() and file.read_text() == text and file.stat().st_mode & 0o777 == mode:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{file.name}.{os.getpid()}")
        unfinished.write_text(text)
        unfinished.chmod(mode)
        unfinished.replace(file)
    except OSError as error:
        raise NoPermissionError(
            f"write: on {file}: {error.strerror}: name a folder that can be written in XDG_CACHE_HOME, or for "
            "`orlop compat enable` use a virtual environment of your own"
        ) from None


def _write_metadata(folder: Path, version: str) -> None:
    """The overlay's own metadata with another version in it."""
    own = OVERLAY / f"deepspeed-{default_version()}.dist-info"
    for file in own.iterdir():
        text = file.read_text().replace(f"Version: {default_version()}\n", f"Version: {version}\n")
        write(folder / f"deepspeed-{version}.dist-info" / file.name, text)
