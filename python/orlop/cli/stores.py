"""`orlop ls` and `orlop gc`: what is on a drive, and giving back what nobody needs."""

from __future__ import annotations

import argparse
import fcntl
import json
from pathlib import Path
from typing import Any

from .. import _native
from .._text import size, table
from ..errors import NotFoundError
from .checkpoints import checkpoints_in, line_of


def add_to(commands: Any) -> None:
    """Adds the subcommands."""
    ls = commands.add_parser(
        "ls",
        help="list the stores on a drive, or checkpoints",
        description="Lists the stores under an nvme_path, who uses them and which checkpoints refer to them; and the "
        "checkpoints in a directory.",
    )
    ls.add_argument(
        "directories", nargs="+", type=Path, metavar="DIR", help="an nvme_path, or a directory of checkpoints"
    )
    ls.set_defaults(run=run_ls)
    gc = commands.add_parser(
        "gc",
        help="give back the room of runs that have ended",
        description="Removes what runs that have ended left under an nvme_path, but for what checkpoints refer to. "
        "Runs in use, and those of other machines, are left alone. Every new run does the same by itself.",
    )
    gc.add_argument("nvme_path", type=Path, nargs="+", help="a directory that runs used; several for several drives")
    gc.add_argument("--dry-run", action="store_true", help="only say how much")
    gc.set_defaults(run=run_gc)


def run_ls(chosen: argparse.Namespace) -> int:
    """`orlop ls`."""
    for directory in chosen.directories:
        runs = sorted(path for path in (directory / "orlop").glob("*") if path.is_dir())
        found = checkpoints_in(directory)
        if not runs and not found:
            raise NotFoundError(f"ls: on {directory}: there is no store and no checkpoint of Orlop")
        if runs:
            print(
                table([row for run in runs for row in _stores_of(run)], ("STORE", "ON DISK", "USED BY", "CHECKPOINTS"))
            )
        if found:
            print(table([line_of(path) for path in found], ("CHECKPOINT", "UPDATE", "SAVED", "SIZE", "")))
    return 0


def _stores_of(run: Path) -> list[tuple[str, str, str, str]]:
    pins = [pin for path in run.glob("*.pin") if (pin := _json_of(path))]
    rows = []
    for store in sorted(run.glob("rank*.store")):
        opening = store.stem.partition("-")[2]
        kept = [Path(pin["manifest"]).parent for pin in pins if not opening or pin.get("opening") == opening]
        names = ", ".join(str(path) if path.is_dir() else f"{path} (gone)" for path in kept)
        user = _user_of(run / f"{store.stem.partition('-')[0]}.lock") if not opening else "nobody"
        rows.append((f"{run.name}/{store.name}", size(store.stat().st_blocks * 512), user, names or "none"))
    return rows


def _user_of(lock: Path) -> str:
    """Who holds a lock file; nobody when it could be had."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return "nobody"
    except OSError:
        owner = _json_of(lock)
        return f"process {owner.get('pid')} on {owner.get('host')} since {owner.get('started')}"
    return "nobody"


def _json_of(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def run_gc(chosen: argparse.Namespace) -> int:
    """`orlop gc`."""
    for path in chosen.nvme_path:
        freed = _native.reclaim(str(path), chosen.dry_run)
        print(f"{path}: {size(freed)} {'could be' if chosen.dry_run else 'were'} given back")
    return 0
