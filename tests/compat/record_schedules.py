"""Writes schedules_recorded.json: what DeepSpeed's own schedules do, for schedulers_test.py to compare with.

    python tests/compat/record_schedules.py > tests/compat/schedules_recorded.json

with an interpreter that has DeepSpeed (0.19.8 when the file was written) and not Orlop's overlay of that name.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch

STEPS = 30
RATES = (0.05, 0.2)  # of two groups
BETAS = ((0.7, 0.99), (0.6, 0.99))  # it gives all groups the second beta of the first

CASES: list[tuple[str, dict[str, Any]]] = [
    ("LRRangeTest", {}),
    ("LRRangeTest", {"lr_range_test_min_lr": 0.01, "lr_range_test_step_size": 7, "lr_range_test_step_rate": 5.0}),
    ("LRRangeTest", {"lr_range_test_min_lr": [0.01, 0.3], "lr_range_test_step_size": 3}),
    ("LRRangeTest", {"lr_range_test_step_size": 4, "lr_range_test_step_rate": 0.5, "lr_range_test_staircase": True}),
    ("LRRangeTest", {"lr_range_test_step_size": 4, "last_batch_iteration": 5}),
    ("OneCycle", {"cycle_min_lr": 0.001, "cycle_max_lr": 0.1}),
    ("OneCycle", {"cycle_min_lr": 0.001, "cycle_max_lr": 0.1, "cycle_first_step_size": 5}),
    (
        "OneCycle",
        {
            "cycle_min_lr": 0.001,
            "cycle_max_lr": 0.1,
            "cycle_first_step_size": 5,
            "cycle_second_step_size": 9,
            "decay_step_size": 4,
            "decay_lr_rate": 0.3,
            "decay_mom_rate": 0.01,
        },
    ),
    (
        "OneCycle",
        {
            "cycle_min_lr": 0.002,
            "cycle_max_lr": 0.05,
            "cycle_first_step_size": 8,
            "cycle_second_step_size": 3,
            "cycle_first_stair_count": 2,
            "cycle_second_stair_count": 2,
            "cycle_min_mom": 0.7,
            "cycle_max_mom": 0.95,
        },
    ),
    (
        "OneCycle",
        {
            "cycle_min_lr": 0.001,
            "cycle_max_lr": 0.1,
            "cycle_first_step_size": 6,
            "cycle_momentum": False,
            "decay_step_size": 2,
            "decay_lr_rate": 1.0,
        },
    ),
    ("OneCycle", {"cycle_min_lr": 0.001, "cycle_max_lr": 0.1, "cycle_first_step_size": 6, "last_batch_iteration": 2}),
    ("WarmupLR", {}),
    ("WarmupLR", {"warmup_num_steps": 10}),
    ("WarmupLR", {"warmup_min_lr": 0.001, "warmup_max_lr": 0.01, "warmup_num_steps": 10}),
    ("WarmupLR", {"warmup_min_lr": 0.001, "warmup_max_lr": 0.01, "warmup_num_steps": 10, "warmup_type": "linear"}),
    ("WarmupLR", {"warmup_min_lr": [0.1, 0.2], "warmup_max_lr": [0.3, 0.5], "warmup_num_steps": 6}),
    ("WarmupLR", {"warmup_max_lr": 0.01, "warmup_num_steps": 1}),
    ("WarmupLR", {"warmup_max_lr": 0.01, "warmup_num_steps": 1, "warmup_type": "linear"}),
    ("WarmupLR", {"warmup_max_lr": 0.01, "warmup_num_steps": 2, "warmup_type": "linear"}),
    ("WarmupLR", {"warmup_max_lr": 0.01, "warmup_num_steps": 3, "warmup_type": "none such"}),
    ("WarmupLR", {"warmup_max_lr": 0.01, "warmup_num_steps": 10, "last_batch_iteration": 4}),
    ("WarmupDecayLR", {"total_num_steps": 20, "warmup_num_steps": 5}),
    ("WarmupDecayLR", {"total_num_steps": 20, "warmup_num_steps": 5, "warmup_max_lr": None}),
    ("WarmupDecayLR", {"total_num_steps": 20, "warmup_min_lr": 0.002, "warmup_max_lr": 0.1, "warmup_num_steps": 8}),
    ("WarmupDecayLR", {"total_num_steps": 25, "warmup_num_steps": 5, "warmup_type": "linear"}),
    ("WarmupDecayLR", {"total_num_steps": 20, "warmup_num_steps": 1}),
    ("WarmupDecayLR", {"total_num_steps": 3, "warmup_num_steps": 6}),
    ("WarmupCosineLR", {"total_num_steps": 20, "warmup_num_steps": 5}),
    ("WarmupCosineLR", {"total_num_steps": 20, "warmup_num_steps": 5, "warmup_type": "linear"}),
    ("WarmupCosineLR", {"total_num_steps": 25, "warmup_num_steps": 8, "warmup_min_ratio": 0.1, "cos_min_ratio": 0.2}),
    ("WarmupCosineLR", {"total_num_steps": 20, "warmup_num_steps": 1}),
    ("WarmupCosineLR", {"total_num_steps": 20, "warmup_num_steps": 1, "warmup_type": "linear"}),
    ("WarmupCosineLR", {"total_num_steps": 20, "warmup_num_steps": 5, "last_batch_iteration": 3}),
]


def optimizer() -> torch.optim.Optimizer:
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate, "betas": betas}
        for rate, betas in zip(RATES, BETAS, strict=True)
    ]
    return torch.optim.AdamW(groups)


def values(made: torch.optim.Optimizer) -> list[Any]:
    return [[group["lr"], list(group["betas"])] for group in made.param_groups]


def play(schedule_class: Any, params: dict[str, Any]) -> dict[str, Any]:
    """A schedule's life: the groups after it is made, what it says then, the groups after every step, its state."""
    made = optimizer()
    schedule = schedule_class(made, **params)
    first, said = values(made), list(schedule.get_lr())
    steps = []
    for _ in range(STEPS):
        schedule.step()
        steps.append(values(made))
    last = list(schedule.get_last_lr())
    schedule.step(7)
    return {
        "first": first,
        "said": said,
        "steps": steps,
        "last": last,
        "at_7": values(made),
        "state": schedule.state_dict(),
    }


if __name__ == "__main__":
    from deepspeed.runtime import lr_schedules

    recorded = [{"name": name, "params": params} | play(getattr(lr_schedules, name), params) for name, params in CASES]
    json.dump(recorded, sys.stdout, indent=None, separators=(",", ":"))
    print()
