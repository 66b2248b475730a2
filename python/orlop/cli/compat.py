"""`orlop compat`: DeepSpeed's names in a whole Python environment."""

from __future__ import annotations

import argparse
from typing import Any

from ..compat import disable, enable, status


def add_to(commands: Any) -> None:
    """Adds the subcommands."""
    compat = commands.add_parser(
        "compat",
        help="let every program of this Python environment find Orlop under DeepSpeed's names",
        description="`orlop run` does it for one command; this does it for the environment that this command is of: "
        "python train.py, torchrun, accelerate launch and deepspeed then train on Orlop.",
    )
    actions = compat.add_subparsers(metavar="ACTION", required=True)
    on = actions.add_parser(
        "enable",
        help="write a .pth file into site-packages, and the commands deepspeed and ds_report",
        description="Writes orlop-compat.pth into site-packages, and the commands deepspeed and ds_report. What a .pth "
        "file adds to the path comes after site-packages: where a DeepSpeed is installed it would be found first, so "
        "that is refused.",
    )
    on.add_argument("--deepspeed-version", metavar="V", help="the version of DeepSpeed to claim, such as 0.16.8")
    on.add_argument(
        "--shadow", action="store_true", help="even if a DeepSpeed is installed: Orlop comes before it until `disable`"
    )
    on.set_defaults(run=run_enable)
    actions.add_parser("disable", help="remove what `enable` wrote").set_defaults(run=run_disable)
    actions.add_parser("status", help="which deepspeed this environment finds").set_defaults(run=run_status)


def run_enable(chosen: argparse.Namespace) -> int:
    """`orlop compat enable`."""
    for path in enable(chosen.deepspeed_version, chosen.shadow):
        print(f"written: {path}")
    return 0


def run_disable(_chosen: argparse.Namespace) -> int:
    """`orlop compat disable`."""
    for path in disable():
        print(f"removed: {path}")
    return 0


def run_status(_chosen: argparse.Namespace) -> int:
    """`orlop compat status`."""
    found = status()
    print(f"environment         {found.site_packages}")
    print(f"enabled             {found.file or 'no: orlop compat enable'}")
    print(f"deepspeed found     {found.version or 'none'}")
    print(f"DeepSpeed installed {found.installed or 'no'}")
    print(f"commands            {', '.join(map(str, found.commands)) or 'none of ours'}")
    return 0
