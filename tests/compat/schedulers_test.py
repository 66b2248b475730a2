"""The five schedules: alone, beside what DeepSpeed's own were seen to do, and as the configuration's block."""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import deepspeed
import orlop
import pytest
import torch
from deepspeed.runtime import lr_schedules
from record_schedules import play
from torch import nn

RECORDED = json.loads(Path(__file__).with_name("schedules_recorded.json").read_text())


def optimizer(*rates: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates or (0.1,)])


def rates(made: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in made.param_groups]


@pytest.mark.parametrize("case", RECORDED, ids=lambda case: f"{case['name']} {case['params']}")
def test_every_value_is_that_of_deepspeed(case: dict[str, Any]) -> None:
    ours = json.loads(json.dumps(play(getattr(lr_schedules, case["name"]), case["params"])))
    for what, value in ours.items():
        assert value == case[what], what


def test_the_names_are_those_of_deepspeed() -> None:
    assert lr_schedules.VALID_LR_SCHEDULES == ["LRRangeTest", "OneCycle", "WarmupLR", "WarmupDecayLR", "WarmupCosineLR"]
    for name in lr_schedules.VALID_LR_SCHEDULES:
        assert getattr(lr_schedules, name) is getattr(orlop.lr_schedules, name)
        known = lr_schedules._parameters_of(name)
        named = {value for value in vars(lr_schedules).values() if isinstance(value, str)}
        assert not [key for key in known if key not in named and not key.startswith("cycle_momentum")]


@pytest.mark.parametrize("name", lr_schedules.VALID_LR_SCHEDULES)
def test_the_last_rate_is_known_after_the_first_step(name: str) -> None:
    params = {"OneCycle": {"cycle_min_lr": 0.1, "cycle_max_lr": 0.2}}.get(name, {})
    params |= {"total_num_steps": 9} if name in ("WarmupDecayLR", "WarmupCosineLR") else {}
    made = optimizer()
    schedule = getattr(lr_schedules, name)(made, **params)
    with pytest.raises(AssertionError, match="need to call step"):
        schedule.get_last_lr()
    schedule.step()
    assert schedule.get_last_lr() == rates(made)


@pytest.mark.parametrize("name", ["WarmupLR", "WarmupDecayLR", "WarmupCosineLR"])
@pytest.mark.parametrize("kind", ["log", "linear"])
def test_without_updates_to_warm_up_training_begins_at_the_full_rate(name: str, kind: str) -> None:
    params: dict[str, Any] = {"warmup_num_steps": 0, "warmup_type": kind}
    params |= {"total_num_steps": 10} if name != "WarmupLR" else {}
    params |= {"warmup_max_lr": 0.1} if name != "WarmupCosineLR" else {}
    made = optimizer(0.1)
    schedule = getattr(lr_schedules, name)(made, **params)
    assert rates(made)[0] >= 0.1
    seen = []
    for _ in range(12):
        schedule.step()
        seen += rates(made)
    assert seen[0] == pytest.approx(0.1, rel=0.03) and all(a >= b for a, b in itertools.pairwise(seen))
    with pytest.raises(ValueError, match=r"warmup_num_steps \(-1\): must be at least 0"):
        getattr(lr_schedules, name)(made, **params | {"warmup_num_steps": -1})


def test_a_group_keeps_its_own_second_beta() -> None:
    made = torch.optim.AdamW([{"params": [nn.Parameter(torch.zeros(1))], "betas": (0.5, b)} for b in (0.9, 0.99)])
    schedule = lr_schedules.OneCycle(made, 0.1, 0.2, cycle_first_step_size=2)
    schedule.step()
    assert [group["betas"] for group in made.param_groups] == [(pytest.approx(0.85), 0.9), (pytest.approx(0.85), 0.99)]


def test_an_optimizer_without_betas_has_no_momentum_to_cycle() -> None:
    made = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.5)
    schedule = lr_schedules.OneCycle(made, 0.1, 0.2, cycle_first_step_size=2)
    schedule.step()
    assert made.param_groups[0]["momentum"] == 0.5 and rates(made) == [pytest.approx(0.15)]


def test_a_schedule_goes_on_where_another_stopped() -> None:
    first, second = optimizer(), optimizer()
    whole = lr_schedules.WarmupDecayLR(first, 20, warmup_num_steps=5)
    for _ in range(9):
        whole.step()
    resumed = lr_schedules.WarmupDecayLR(second, 20, warmup_num_steps=5)
    resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    for _ in range(9):
        whole.step()
        resumed.step()
        assert rates(first) == rates(second)


def test_what_is_no_optimizer_and_other_numbers_of_values_are_refused() -> None:
    with pytest.raises(TypeError, match="schedules a torch optimizer"):
        lr_schedules.WarmupLR(object())
    with pytest.raises(ValueError, match="3 values for 2 parameter groups"):
        lr_schedules.WarmupLR(optimizer(0.1, 0.2), [0.1, 0.2, 0.3])


def test_a_learning_rate_that_is_a_tensor_stays_one() -> None:
    made = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=torch.tensor(0.5))
    schedule = lr_schedules.WarmupLR(made, warmup_max_lr=1.0, warmup_num_steps=2)
    before = made.param_groups[0]["lr"]
    for _ in range(3):
        schedule.step()
    assert made.param_groups[0]["lr"] is before and before.item() == 1


# ---- The command line ----


def test_tuning_arguments_make_a_scheduler_block() -> None:
    parser = lr_schedules.add_tuning_arguments(argparse.ArgumentParser())
    args = parser.parse_args(["--lr_schedule", "WarmupLR", "--warmup_num_steps", "7", "--warmup_max_lr", "0.5"])
    block, _ = lr_schedules.get_config_from_args(args)
    assert block is not None and block["type"] == "WarmupLR"
    assert block["params"]["warmup_num_steps"] == 7 and block["params"]["warmup_max_lr"] == 0.5
    assert lr_schedules.get_lr_from_config(block) == (0.5, "")
    assert lr_schedules.get_config_from_args(parser.parse_args([]))[0] is None
    assert lr_schedules.get_lr_from_config({"type": "WarmupLR"})[0] is None


# ---- The configuration's block ----


def config(**changes: Any) -> dict[str, Any]:
    return {
        "train_batch_size": 4,
        "optimizer": {"type": "AdamW", "params": {"lr": 0.01}},
        "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 3, "warmup_max_lr": "auto"}},
    } | changes


def learning_rates(initialize: Any, steps: int, **given: Any) -> list[float]:
    """The rate before every update."""
    engine, _, _, scheduler = initialize(model=nn.Linear(4, 2), **given)
    assert scheduler is engine.lr_scheduler
    seen = []
    for _ in range(steps):
        seen += engine.get_lr()
        engine.backward(engine(torch.randn(4, 4)).square().mean())
        engine.step()
    engine.close()
    return seen


@pytest.mark.parametrize("initialize", [orlop.initialize, deepspeed.initialize], ids=["orlop", "deepspeed"])
@pytest.mark.parametrize("stage", [0, 3])
def test_the_block_drives_the_engine(initialize: Any, stage: int) -> None:
    made = optimizer(0.01)
    schedule = lr_schedules.WarmupLR(made, warmup_num_steps=3)
    expected = rates(made)
    for _ in range(5):
        schedule.step()
        expected += rates(made)
    assert learning_rates(initialize, 6, config=config(zero_optimization={"stage": stage})) == expected


def test_a_schedule_of_torch_may_be_named() -> None:
    block = {"type": "StepLR", "params": {"step_size": 2, "gamma": 0.5}}
    assert learning_rates(orlop.initialize, 5, config=config(scheduler=block)) == [0.01, 0.01, 0.005, 0.005, 0.0025]


def test_the_programs_scheduler_comes_before_the_block() -> None:
    def make(of: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.ConstantLR(of, factor=0.5, total_iters=2)

    assert learning_rates(orlop.initialize, 3, config=config(), lr_scheduler=make) == [0.005, 0.005, 0.01]


def test_the_block_drives_an_optimizer_of_the_programs() -> None:
    model = nn.Linear(4, 2)
    client = torch.optim.AdamW(model.parameters(), lr=0.02)
    engine, *_ = orlop.initialize(model=model, optimizer=client, config={"scheduler": config()["scheduler"]})
    for _ in range(4):
        engine.backward(engine(torch.randn(4, 4)).square().mean())
        engine.step()
    assert engine.get_lr() == [0.02]
    engine.close()


def test_an_engine_that_trains_nothing_has_no_schedule() -> None:
    settings = config(zero_optimization={"stage": 3})
    del settings["optimizer"]
    engine, optimizer, _, scheduler = deepspeed.initialize(model=nn.Linear(4, 2), config=settings)
    assert optimizer is None and scheduler is None and engine(torch.ones(1, 4)).shape == (1, 2)
    engine.close()


def test_a_block_that_cannot_be_is_refused_before_anything_is_made() -> None:
    model = nn.Linear(4, 2)
    before = model.weight.data_ptr()
    for block, why in (
        (
            {"type": "WarmUpLR"},
            r'"scheduler.type" \(\'WarmUpLR\'\): there is none of that name: write one of LRRangeTest',
        ),
        ({"type": "WarmupLR", "params": {"warmup_steps": 1}}, "warmup_steps.*write of these: warmup_min_lr"),
        ({"type": "WarmupDecayLR"}, "missing a required argument: 'total_num_steps'"),
    ):
        with pytest.raises(orlop.ConfigError, match=why):
            orlop.initialize(model=model, config=config(scheduler=block))
    assert model.weight.data_ptr() == before


def test_a_resumed_engine_goes_on_with_the_rates(tmp_path: Path) -> None:
    def trained(steps: int, load: bool) -> tuple[orlop.Engine, list[float]]:
        torch.manual_seed(3)
        engine, *_ = orlop.initialize(model=nn.Linear(4, 2), config=config())
        if load:
            engine.load_checkpoint(str(tmp_path))
        seen = []
        for _ in range(steps):
            engine.backward(engine(torch.ones(4, 4)).square().mean())
            engine.step()
            seen += engine.get_lr()
        return engine, seen

    engine, first = trained(2, False)
    engine.save_checkpoint(str(tmp_path))
    engine.close()
    engine, rest = trained(3, True)
    engine.close()
    engine, whole = trained(5, False)
    engine.close()
    assert first + rest == whole
