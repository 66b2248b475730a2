"""The commands `deepspeed` and `ds_report`, as files that run the overlay in this interpreter."""

from __future__ import annotations

import hashlib
import shlex
import sys
from pathlib import Path

from ._overlay import cache, write

_ENTRIES = {"deepspeed": "deepspeed.launcher.runner", "ds_report": "deepspeed.env_report"}
_MARK = "# Made by Orlop (orlop compat, orlop run)."


def write_scripts(folder: Path) -> tuple[list[Path], list[Path]]:
    """Writes the commands into a folder; gives those written, and those left as they were: another program's."""
    written, left = [], []
    for name, module in _ENTRIES.items():
        file = folder / name
        if file.exists() and not is_ours(file):
            left.append(file)
            continue
        write(file, _text(module), 0o755)
        written.append(file)
    return written, left


def cached_scripts() -> Path:
    """A folder with the commands for this interpreter, to be put on PATH."""
    folder = cache() / "commands" / hashlib.sha256(sys.executable.encode()).hexdigest()[:16]
    write_scripts(folder)
    return folder


def remove_scripts(folder: Path) -> list[Path]:
    """Removes what `write_scripts` wrote; gives what it removed."""
    files = [folder / name for name in _ENTRIES]
    removed = [file for file in files if file.is_file() and is_ours(file)]
    for file in removed:
        file.unlink()
    return removed


def is_ours(file: Path) -> bool:
    return _MARK in file.read_text(errors="replace")


def _text(module: str) -> str:
    """A shell starts this interpreter with the file, however long its path; to Python those lines are a string."""
    start = f"'''exec' {shlex.quote(sys.executable)} \"$0\" \"$@\"\n' '''"
    return f"#!/bin/sh\n{_MARK}\n{start}\nfrom {module} import command\n\ncommand()\n"
