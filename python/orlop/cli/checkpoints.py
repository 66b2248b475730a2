"""`orlop verify` and `orlop ls`: what is in checkpoints, and whether it is sound."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from .. import _native
from .._checkpoint import LATEST, MANIFEST, check_tensors
from .._text import size
from ..errors import InvalidArgumentError, NotFoundError, OrlopError
from ._progress import progress
from ._train import verify_training


def add_to(commands: Any) -> None:
    """Adds the subcommand."""
    verify = commands.add_parser(
        "verify",
        help="compare every byte of a checkpoint with its checksum; or training with and without offload",
        description="Reads every byte of checkpoints, those in their stores included, and compares it with its "
        "checksum. With --train, trains a small model as CONFIG says with and without offload and compares the bits.",
    )
    verify.add_argument("directory", nargs="?", type=Path, help="a checkpoint, or a directory of checkpoints")
    verify.add_argument("--train", metavar="CONFIG", help="a DeepSpeed configuration to train with instead")
    verify.add_argument("--steps", type=int, default=5, help="updates with --train (5)")
    verify.set_defaults(run=run)


def checkpoints_in(directory: Path) -> list[Path]:
    """The directory itself when it is a checkpoint, else those in it, oldest first."""
    if (directory / MANIFEST).is_file():
        return [directory]
    found = sorted(directory.glob(f"*/{MANIFEST}"), key=lambda manifest: manifest.stat().st_mtime_ns)
    return [manifest.parent for manifest in found]


def run(chosen: argparse.Namespace) -> int:
    """`orlop verify`."""
    if (chosen.directory is None) == (chosen.train is None):
        raise InvalidArgumentError("verify: give a directory of checkpoints, or --train CONFIG")
    if chosen.train is not None:
        return verify_training(chosen.train, chosen.steps)
    found = checkpoints_in(chosen.directory)
    if not found:
        raise NotFoundError(f"verify: on {chosen.directory}: it is no checkpoint of Orlop and holds none")
    damaged = 0
    for directory in found:
        try:
            print(f"{directory}: sound, {_verify(directory)}", flush=True)
        except OrlopError as error:
            damaged += 1
            print(f"{directory}: NOT sound: {error}", flush=True)
    return 1 if damaged else 0


def _verify(directory: Path) -> str:
    begin, total = time.monotonic(), 0

    with progress(f"verify {directory.name}") as show:

        def note(done: int, of: int) -> None:
            nonlocal total
            total = of
            show(done, of)

        _native.verify_checkpoint(str(directory), note)
    check_tensors(directory, _native.describe_checkpoint(str(directory)))
    seconds = max(time.monotonic() - begin, 1e-9)
    return f"{size(total)} at {total / seconds / 1e9:.2f} GB/s"


def line_of(directory: Path) -> tuple[str, ...]:
    """What `orlop ls` says of a checkpoint."""
    try:
        about = _native.describe_checkpoint(str(directory))
    except OrlopError as error:
        return (directory.name, "", "", "", str(error))
    store = about["store"] or []
    stores = store if isinstance(store, list) else [store]  # on several drives, or on one
    where = "states in " + " and ".join(s["directory"] for s in stores) if stores else "stands alone"
    latest = directory.parent / LATEST
    if latest.is_file() and latest.read_text().strip() == directory.name:
        where += ", latest"
    return (directory.name, str(about["steps"]), about["created"], size(about["data_bytes"]), where)
