"""`orlop run`: a training script or a launcher, with Orlop under DeepSpeed's names."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._initialize import PRINT_CONFIG
from .._ranks import alone, check_ranks
from ..compat._overlay import folders, joined
from ..compat._scripts import cached_scripts
from ..errors import NotFoundError

# Commands that are Python packages run in this interpreter, whichever environment PATH finds first.
_MODULES = {"accelerate": "accelerate.commands.accelerate_cli", "torchrun": "torch.distributed.run"}


def add_to(commands: Any) -> None:
    """Adds the subcommand."""
    run_script = commands.add_parser(
        "run",
        help="run a script written for DeepSpeed, or a launcher of one, on Orlop",
        description="Runs a script, or a command that starts one (python, torchrun, accelerate launch, deepspeed), "
        "with Orlop under DeepSpeed's names: `import deepspeed`, Trainer and Accelerator find it. A script gets the "
        "variables that launchers set (RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT) "
        "for one rank, where they are not set already. Signals and the exit status are the script's own.",
    )
    run_script.add_argument(
        "--np", type=int, default=1, metavar="N", help="ranks to start (1, all that this version has)"
    )
    run_script.add_argument(
        "--deepspeed-version", metavar="V", help="the version of DeepSpeed to claim, such as 0.16.8, for checks of it"
    )
    run_script.add_argument(
        "--print_config", action="store_true", help="print each engine's configuration: value, where it came from, why"
    )
    run_script.add_argument("script", help="a script, or a command")
    run_script.add_argument("arguments", nargs=argparse.REMAINDER, help="its own")
    run_script.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """`orlop run`: becomes the command, and does not return."""
    check_ranks("run", chosen.np, "leave --np out")
    words = [chosen.script, *chosen.arguments]
    command = _command(words)
    environment = _with_overlay(os.environ, chosen.deepspeed_version)
    if _is_script(command):
        environment = alone() | environment
    if chosen.print_config:
        environment[PRINT_CONFIG] = "1"
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, environment)


def _command(words: list[str]) -> list[str]:
    """The program to run, by its whole path, and its arguments."""
    first, rest = words[0], words[1:]
    if re.fullmatch(r"python(3(\.\d+)?)?", first):
        return [sys.executable, *rest]
    if first in _MODULES:
        return [sys.executable, "-m", _MODULES[first], *rest]
    is_program = os.access(first, os.X_OK) and Path(first).suffix != ".py"
    if Path(first).is_file() and not is_program:
        return [sys.executable, first, *rest]
    found = shutil.which(first, path=joined([cached_scripts()], os.environ.get("PATH")))
    if found is None:
        raise NotFoundError(f"run: on {first}: there is no such script and no such command")
    return [found, *rest]


def _is_script(command: list[str]) -> bool:
    """Whether it is one process that trains: launchers make the variables of those that they start themselves."""
    return command[0] == sys.executable and command[1:3] not in (["-m", module] for module in _MODULES.values())


def _with_overlay(environment: Mapping[str, str], version: str | None) -> dict[str, str]:
    """An environment in which every process finds the overlay, and the commands on PATH."""
    return {
        **environment,
        "PYTHONPATH": joined(folders(version), environment.get("PYTHONPATH")),
        "PATH": joined([cached_scripts()], environment.get("PATH")),
    }
