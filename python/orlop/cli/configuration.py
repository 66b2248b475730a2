"""`orlop config`: a configuration as it is understood."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..config import Config


def add_to(commands: Any) -> None:
    """Adds the subcommand."""
    config = commands.add_parser(
        "config",
        help="print a configuration: every value, where it came from and why",
        description="Reads a DeepSpeed configuration and prints what is understood of it: value, where it came from "
        "(the file, a default, derived from others) and why; then what has no effect here, and unknown names.",
    )
    config.add_argument("file", help="a DeepSpeed configuration")
    config.add_argument("--all", action="store_true", help="defaults, too")
    config.add_argument("--json", action="store_true", help="the values as a JSON configuration")
    config.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """`orlop config`."""
    config = Config(chosen.file)
    print(json.dumps(config.values, indent=2) if chosen.json else config.table(chosen.all))
    return 0
