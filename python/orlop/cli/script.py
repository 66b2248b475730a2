"""`orlop run`: a training script, set up as a launcher would."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from pathlib import Path
from typing import Any

from .._initialize import PRINT_CONFIG
from ..errors import NotFoundError


def add_to(commands: Any) -> None:
    """Adds the subcommand."""
    run_script = commands.add_parser(
        "run",
        help="run a training script as rank 0 of 1",
        description="Runs SCRIPT as `python SCRIPT` would, with the variables that launchers set (RANK, LOCAL_RANK, "
        "WORLD_SIZE, MASTER_ADDR, MASTER_PORT) for one rank, where they are not set already.",
    )
    run_script.add_argument(
        "--print_config", action="store_true", help="print each engine's configuration: value, where it came from, why"
    )
    run_script.add_argument("script", type=Path)
    run_script.add_argument("arguments", nargs=argparse.REMAINDER, help="its own")
    run_script.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """`orlop run`."""
    if not chosen.script.is_file():
        raise NotFoundError(f"run: on {chosen.script}: there is no such script")
    one_rank = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in one_rank.items():
        os.environ.setdefault(name, value)
    if chosen.print_config:
        os.environ[PRINT_CONFIG] = "1"
    sys.argv = [str(chosen.script), *chosen.arguments]
    sys.path[0] = str(chosen.script.resolve().parent)
    runpy.run_path(str(chosen.script), run_name="__main__")
    return 0
