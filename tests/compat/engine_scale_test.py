"""The loss scale, overflows and what is not finite, as programs watch them."""

from __future__ import annotations

import pytest
import torch
from engine_models import batches, engine_of, loss_of, train, values
from torch import nn

DYNAMIC = {"enabled": True, "loss_scale": 0, "initial_scale_power": 8, "loss_scale_window": 2, "hysteresis": 1}


def step(engine: object, factor: float = 1.0) -> None:
    engine.backward(loss_of(engine, batches(1)[0]) * factor)
    engine.step()


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_dynamic_scale_is_exact_after_every_step(stage: int) -> None:
    engine = engine_of(stage=stage, fp16=DYNAMIC | {"min_loss_scale": 0.25})
    view = engine.optimizer.loss_scaler if stage else engine.optimizer.loss_scale_config
    assert engine.optimizer.dynamic_loss_scale and (view.cur_scale, view.cur_iter, view.scale_window) == (256, 0, 2)
    seen = []
    for factor in (1, 1, 1, float("inf"), 1, 1, 1, 1, 1, float("nan"), float("-inf")):
        before = values(engine)
        step(engine, factor)
        after = values(engine)
        changed = any(not torch.equal(before[name], after[name]) for name in before)
        assert changed == (factor == 1) and engine.optimizer.overflow == (factor != 1)
        seen.append((view.cur_scale, view.cur_iter, view.last_overflow_iter, engine.skipped_steps))
    assert seen == [  # what DeepSpeed 0.19.8 shows
        (256, 1, -1, 0),
        (256, 2, -1, 0),
        (512, 3, -1, 0),
        (256, 4, 3, 1),
        (256, 5, 3, 1),
        (256, 6, 3, 1),
        (512, 7, 3, 1),
        (512, 8, 3, 1),
        (1024, 9, 3, 1),
        (512, 10, 9, 2),
        (256, 11, 10, 3),
    ]
    assert engine.loss_scale() == engine.optimizer.cur_scale == 256
    engine.destroy()


def test_hysteresis_takes_the_first_overflow_of_zero() -> None:
    seen = {}
    for stage in (0, 2):
        engine = engine_of(stage=stage, fp16=DYNAMIC | {"hysteresis": 2})
        view = engine.optimizer.loss_scaler
        seen[stage] = []
        for factor in (1, float("inf"), 1, float("inf"), 1, 1, 1, float("inf")):
            step(engine, factor)
            seen[stage].append((view.cur_scale, view.cur_hysteresis))
        engine.destroy()
    assert [scale for scale, _ in seen[0]] == [256, 128, 128, 64, 64, 64, 128, 64]
    assert seen[2] == [(256, 2), (256, 1), (256, 1), (128, 1), (128, 1), (128, 1), (256, 2), (256, 1)]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_static_scale(stage: int) -> None:
    engine = engine_of(stage=stage, fp16={"enabled": True, "loss_scale": 138})
    optimizer = engine.optimizer
    assert optimizer.dynamic_loss_scale is False and optimizer.loss_scaler.loss_scale == 138.0
    step(engine)
    assert engine.was_step_applied() and optimizer.loss_scaler.loss_scale == 138.0
    engine.destroy()


def test_a_first_scale_that_is_far_too_large_comes_down() -> None:
    engine = engine_of(stage=3, fp16={"enabled": True, "initial_scale_power": 32, "hysteresis": 1})
    skipped = 0
    while not engine.was_step_applied():
        step(engine)
        skipped += 1
        assert skipped < 40
    assert engine.skipped_steps == skipped - 1 > 5
    engine.destroy()


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("checks", [True, False])
def test_bf16_may_look_for_overflows_or_not(stage: int, checks: bool) -> None:
    engine = engine_of(stage=stage, bf16={"enabled": True, "check_grad_overflow": checks})
    train(engine, 1)
    step(engine, float("inf"))
    is_finite = all(value.isfinite().all() for value in values(engine).values())
    assert (is_finite, engine.skipped_steps, engine.was_step_applied()) == (checks, int(checks), not checks)
    assert not engine.needs_scaler() and engine.loss_scale() == 1
    engine.destroy()


def test_the_norm_is_that_before_clipping_and_stays_until_the_next_step() -> None:
    engine = engine_of(stage=3)
    assert engine.get_global_grad_norm() is None
    net = engine.module
    loss = loss_of(engine, batches(1)[0])
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    expected = nn.utils.get_total_norm(gradients).item()
    step(engine)
    assert engine.get_global_grad_norm() == pytest.approx(expected, rel=1e-6)
    engine(batches(1)[0][0])
    assert engine.get_global_grad_norm() == pytest.approx(expected, rel=1e-6)
    engine.destroy()
