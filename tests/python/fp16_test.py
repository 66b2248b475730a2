"""fp16: losses are scaled on their way, overflows skip and lower the scale, the result does not depend on it."""

from __future__ import annotations

from typing import Any

import orlop
import pytest
import torch


def start(fp16: dict[str, Any], **config: Any) -> orlop.Engine:
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1))
    engine, *_ = orlop.initialize(
        model=model,
        config={
            "optimizer": {"type": "AdamW", "params": {"lr": 1e-2}},
            "fp16": {"enabled": True, **fp16},
            **config,
        },
    )
    return engine


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(8, 16, generator=generator).half()
    return x, x.sum(dim=1, keepdim=True) / 4


def train(engine: orlop.Engine, steps: int) -> list[float]:
    x, y = batch()
    losses = []
    for _ in range(steps):
        loss = (engine(x) - y).pow(2).mean()
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    return losses


def test_a_model_learns_in_fp16() -> None:
    with start({}) as engine:
        losses = train(engine, 40)
        assert all(p.dtype == torch.float16 for p in engine.module.parameters())
        assert losses[-1] < 0.2 * losses[0]
        assert engine.fp16_enabled() and engine.loss_scale() == 65536 / 2 ** max(0, engine.skipped_steps - 1)


def test_the_scale_is_taken_out_of_gradients_and_norm() -> None:
    seen = []
    for scale in (1, 64):
        with start({"loss_scale": scale}, gradient_clipping=0) as engine:
            x, y = batch()
            engine.backward((engine(x) - y).pow(2).mean())
            gradient = engine.read_plane("0.weight", "grad")
            engine.step()
            assert engine.last_report is not None and engine.last_report.loss_scale == scale
            seen.append((gradient, engine.get_global_grad_norm()))
    torch.testing.assert_close(seen[0][0], seen[1][0], rtol=2e-3, atol=1e-4)
    assert seen[0][1] == pytest.approx(seen[1][1], rel=1e-3)


def test_a_scale_that_is_too_large_skips_until_it_has_come_down() -> None:
    with start({"initial_scale_power": 24, "hysteresis": 2}) as engine:
        before = [p.detach().clone() for p in engine.module.parameters()]
        train(engine, 1)
        assert engine.skipped_steps == 1 and engine.loss_scale() == 2.0**24
        assert all(torch.equal(a, b) for a, b in zip(before, engine.module.parameters()))
        train(engine, 25)
        assert engine.was_step_applied() and engine.loss_scale() < 2.0**20


def test_at_the_least_scale_an_overflow_is_an_error() -> None:
    with start({"initial_scale_power": 20, "min_loss_scale": 2.0**20, "hysteresis": 1}) as engine:
        with pytest.raises(orlop.OrlopError, match="not finite at the least loss scale"):
            train(engine, 1)


def test_inputs_are_cast_only_when_asked() -> None:
    x, _ = batch()
    with start({"auto_cast": True}) as engine:
        assert engine(x.float()).dtype == torch.float16
    with start({}) as engine, pytest.raises(RuntimeError):
        engine(x.float())


def test_an_unscaled_backward_is_refused() -> None:
    x, y = batch()
    with start({}) as engine, pytest.raises(orlop.OrlopError, match="the loss scale"):
        (engine(x) - y).pow(2).mean().backward()


def test_the_tiers_agree_bit_for_bit(tmp_path: Any) -> None:
    digests = set()
    for offload in ({"device": "none"}, {"device": "cpu"}, {"device": "nvme", "nvme_path": str(tmp_path)}):
        with start({}, zero_optimization={"stage": 3, "offload_optimizer": offload}) as engine:
            train(engine, 5)
            digests.add(engine.digest())
    assert len(digests) == 1
