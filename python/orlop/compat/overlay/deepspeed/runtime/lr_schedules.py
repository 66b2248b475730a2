"""The five learning-rate schedules, with the names of their parameters. They are orlop.lr_schedules'."""

from __future__ import annotations

import argparse
import inspect
from typing import Any

from orlop.lr_schedules import SCHEDULES
from orlop.lr_schedules import LRRangeTest as LRRangeTest
from orlop.lr_schedules import OneCycle as OneCycle
from orlop.lr_schedules import WarmupCosineLR as WarmupCosineLR
from orlop.lr_schedules import WarmupDecayLR as WarmupDecayLR
from orlop.lr_schedules import WarmupLR as WarmupLR

from .._missing import refuse_unknown

LR_SCHEDULE = "lr_schedule"
LR_RANGE_TEST = "LRRangeTest"
ONE_CYCLE = "OneCycle"
WARMUP_LR = "WarmupLR"
WARMUP_DECAY_LR = "WarmupDecayLR"
WARMUP_COSINE_LR = "WarmupCosineLR"
VALID_LR_SCHEDULES = [LR_RANGE_TEST, ONE_CYCLE, WARMUP_LR, WARMUP_DECAY_LR, WARMUP_COSINE_LR]

LR_RANGE_TEST_MIN_LR = "lr_range_test_min_lr"
LR_RANGE_TEST_STEP_RATE = "lr_range_test_step_rate"
LR_RANGE_TEST_STEP_SIZE = "lr_range_test_step_size"
LR_RANGE_TEST_STAIRCASE = "lr_range_test_staircase"

EDGE_VALUE = "edge_value"
MID_VALUE = "mid_value"

CYCLE_FIRST_STEP_SIZE = "cycle_first_step_size"
CYCLE_FIRST_STAIR_COUNT = "cycle_first_stair_count"
CYCLE_SECOND_STEP_SIZE = "cycle_second_step_size"
CYCLE_SECOND_STAIR_COUNT = "cycle_second_stair_count"
DECAY_STEP_SIZE = "decay_step_size"
CYCLE_MIN_LR = "cycle_min_lr"
CYCLE_MAX_LR = "cycle_max_lr"
DECAY_LR_RATE = "decay_lr_rate"
CYCLE_MIN_MOM = "cycle_min_mom"
CYCLE_MAX_MOM = "cycle_max_mom"
DECAY_MOM_RATE = "decay_mom_rate"

WARMUP_MIN_LR = "warmup_min_lr"
WARMUP_MAX_LR = "warmup_max_lr"
WARMUP_NUM_STEPS = "warmup_num_steps"
WARMUP_TYPE = "warmup_type"
WARMUP_LOG_RATE = "log"
WARMUP_LINEAR_RATE = "linear"
WARMUP_MIN_RATIO = "warmup_min_ratio"
COS_MIN_RATIO = "cos_min_ratio"
TOTAL_NUM_STEPS = "total_num_steps"


__getattr__ = refuse_unknown(__name__)


def add_tuning_arguments(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Adds --lr_schedule, and for each parameter of the schedules an argument of its name."""
    group = parser.add_argument_group("Convergence Tuning", "Convergence tuning configurations")
    group.add_argument("--lr_schedule", type=str, default=None, help="LR schedule for training.")
    for name, parameter in _parameters().items():
        default = parameter.default if parameter.default is not parameter.empty else None
        kind = _as_boolean if isinstance(default, bool) else type(default) if default is not None else float
        group.add_argument(f"--{name}", type=kind, default=default)
    return parser


def parse_arguments() -> tuple[argparse.Namespace, list[str]]:
    """The command line's tuning arguments, and all others."""
    return add_tuning_arguments(argparse.ArgumentParser()).parse_known_args()


def get_config_from_args(args: Any) -> tuple[dict[str, Any] | None, str | None]:
    """The scheduler block that the tuning arguments stand for, or None and why there is none."""
    name = getattr(args, LR_SCHEDULE, None)
    if name is None:
        return None, "--lr_schedule not specified on command line"
    if name not in VALID_LR_SCHEDULES:
        return None, f"{name} is not supported LR schedule"
    known = _parameters_of(name)
    params = {key: value for key, value in vars(args).items() if key in known and value is not None}
    return {"type": name, "params": params}, None


def get_lr_from_config(config: dict[str, Any]) -> tuple[float | None, str]:
    """The rate that training begins with under a scheduler block, or None and why there is none."""
    for key in ("type", "params"):
        if key not in config:
            return None, f"LR schedule {key} not defined in config"
    name, params = config["type"], config["params"]
    if name not in VALID_LR_SCHEDULES:
        return None, f"{name} is not a valid LR schedule"
    first = {LR_RANGE_TEST: LR_RANGE_TEST_MIN_LR, ONE_CYCLE: CYCLE_MAX_LR}.get(name, WARMUP_MAX_LR)
    return params[first], ""


def _parameters_of(name: str) -> dict[str, inspect.Parameter]:
    found = dict(inspect.signature(SCHEDULES[name]).parameters)
    del found["optimizer"], found["last_batch_iteration"]
    return found


def _parameters() -> dict[str, inspect.Parameter]:
    return {key: value for name in VALID_LR_SCHEDULES for key, value in _parameters_of(name).items()}


def _as_boolean(text: str) -> bool:
    return text.lower() in ("true", "1", "yes")
