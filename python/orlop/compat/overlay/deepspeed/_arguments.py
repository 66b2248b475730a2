"""The arguments that scripts written for DeepSpeed add to their command line."""

from __future__ import annotations

import argparse


def add_config_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Adds --deepspeed and --deepspeed_config to a parser, and gives it back; `initialize` reads the second."""
    group = parser.add_argument_group("DeepSpeed", "its interface; the engine is Orlop")
    group.add_argument("--deepspeed", action="store_true", help="for the script: whether to train with deepspeed")
    group.add_argument("--deepspeed_config", type=str, default=None, help="path of the configuration")
    group.add_argument("--deepscale", action="store_true", help=argparse.SUPPRESS)  # their older names
    group.add_argument("--deepscale_config", type=str, default=None, help=argparse.SUPPRESS)
    return parser
