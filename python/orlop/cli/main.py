"""The command line: which subcommand, with what."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from ..errors import OrlopError
from . import checkpoints, compat, configuration, doctor, export, importing, plan, report, script, stores

INTERRUPTED = 128 + signal.SIGINT


def parser() -> argparse.ArgumentParser:
    """Every subcommand adds its own part."""
    root = argparse.ArgumentParser(
        prog="orlop",
        description="Runs scripts written for DeepSpeed on Orlop; looks after its machines, stores and checkpoints.",
    )
    commands = root.add_subparsers(metavar="COMMAND", required=True)
    for module in (doctor, script, compat, stores, checkpoints, export, importing, plan, configuration, report):
        module.add_to(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status: 0, 1 with one sentence on stderr, 2 for a wrong command line, 130 after Ctrl-C."""
    chosen = parser().parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
    except OrlopError as error:
        print(f"orlop: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("orlop: interrupted", file=sys.stderr)
        return INTERRUPTED
    return status
