"""The commands `deepspeed` and `ds_report`, as files that run the overlay in this interpreter."""

from __future__ import annotations

import hashlib
import shlex
import sys
from pathlib import Path

from ._overlay import cache, write

_ENTRIES = {"deepspeed": "deepspeed.launcher.runner", "ds_report": "deepspeed.env_report"}
_MARK = "# Made by Orlop (orlop compat, orlop run)."


def write_scripts(folder: Path) -> list[Path]:
    """Writes the commands into a folder and gives them; those of another program stay as they are."""
    written = []
    for name, module in _ENTRIES.items():
        file = folder / name
        if _is_ours(file) or not file.exists():
            write(file, _text(module), 0o755)
            written.append(file)
    return written


def cached_scripts() -> Path:
    """A folder with the commands for this interpreter, to be put on PATH."""
    folder = cache() / "commands" / hashlib.sha256(sys.executable.encode()).hexdigest()[:16]
    write_scripts(folder)
    return folder


def scripts_in(folder: Path) -> list[Path]:
    """What `write_scripts` has written there."""
    return [file for name in _ENTRIES if _is_ours(file := folder / name)]


def _is_ours(file: Path) -> bool:
    return file.is_file() and _MARK in file.read_text(errors="replace")


def _text(module: str) -> str:
    """A shell starts this interpreter with the file, however long its path; to Python those lines are a string."""
    start = f"'''exec' {shlex.quote(sys.executable)} \"$0\" \"$@\"\n' '''"
    return f"#!/bin/sh\n{_MARK}\n{start}\nfrom {module} import command\n\ncommand()\n"
