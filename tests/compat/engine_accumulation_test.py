"""Micro-batches and updates: who counts them, which contexts there are, what a program may call itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deepspeed
import pytest
import torch
from engine_models import DTYPES, TwoLayers, batches, engine_of, loss_of, model, offloaded, plain_losses, train, values
from torch import Tensor


def counts(engine: deepspeed.DeepSpeedEngine) -> tuple[int, int, int]:
    return engine.micro_steps, engine.global_steps, engine.global_samples


def gradients(engine: deepspeed.DeepSpeedEngine) -> dict[str, Tensor]:
    return {name: engine.read_plane(name, "grad") for name, _ in engine.module.named_parameters()}


def plain_gradients(scaled: float = 1.0, count: int = 1, precision: str = "fp32") -> dict[str, Tensor]:
    net = model().to(DTYPES[precision])
    for batch in batches(count):
        (loss_of(net, batch) * scaled).backward()
    return {name: parameter.grad.float() for name, parameter in net.named_parameters()}


def assert_close(a: dict[str, Tensor], b: dict[str, Tensor], **tolerance: float) -> None:
    for name in a:
        torch.testing.assert_close(a[name], b[name], **({"rtol": 1e-5, "atol": 1e-6} | tolerance))


# ---- Counting ----


def test_counts_are_exact() -> None:
    engine = engine_of(accumulation=3, stage=2)
    seen = []
    for batch in batches(6):
        is_boundary = engine.is_gradient_accumulation_boundary()
        engine.backward(loss_of(engine, batch))
        assert engine.is_gradient_accumulation_boundary() == is_boundary
        engine.step()
        seen.append((is_boundary, engine.was_step_applied(), *counts(engine)))
    assert seen == [
        (False, False, 1, 0, 0),
        (False, False, 2, 0, 0),
        (True, True, 3, 1, 12),
        (False, False, 4, 1, 12),
        (False, False, 5, 1, 12),
        (True, True, 6, 2, 24),
    ]
    engine.destroy()


def test_backward_returns_the_divided_loss() -> None:
    engine = engine_of(accumulation=4)
    loss = loss_of(engine, batches(1)[0])
    assert engine.backward(loss).item() == pytest.approx(loss.item() / 4)
    loss = loss_of(engine, batches(1)[0])
    assert engine.backward(loss, scale_wrt_gas=False).item() == loss.item()
    engine.destroy()


def test_two_backward_passes_before_a_step_are_one_micro_batch() -> None:
    one, two = batches(2)
    engine = engine_of(stage=1)
    engine.backward(loss_of(engine, one))
    engine.backward(loss_of(engine, two))
    assert_close(gradients(engine), plain_gradients(count=2))
    engine.step()
    assert counts(engine) == (1, 1, 4)
    engine.destroy()


@pytest.mark.parametrize("device", ["none", "nvme"])
def test_the_program_may_say_where_updates_come(device: str, tmp_path: Path) -> None:
    """As Accelerate does it: it divides the loss, and calls step at boundaries only."""
    engine = engine_of(accumulation=4, zero_optimization=offloaded(3, device, tmp_path))
    for batch in batches(3):
        engine.set_gradient_accumulation_boundary(is_boundary=batch is batches)
        engine.set_gradient_accumulation_boundary(is_boundary=False)
        engine.backward(loss_of(engine, batch) / 3, scale_wrt_gas=False)
    engine.set_gradient_accumulation_boundary(is_boundary=True)
    engine.backward(loss_of(engine, batches(4)[3]) / 3, scale_wrt_gas=False)
    assert_close(gradients(engine), plain_gradients(1 / 3, 4))
    engine.step()
    assert engine.global_steps == 1 and engine.was_step_applied()
    engine.destroy()


def test_a_boundary_may_be_said_after_the_backward_pass() -> None:
    engine = engine_of(accumulation=4)
    engine.set_gradient_accumulation_boundary(False)
    engine.backward(loss_of(engine, batches(1)[0]))
    engine.set_gradient_accumulation_boundary(True)
    engine.step()
    assert engine.global_steps == 1
    engine.destroy()


def test_the_batch_size_can_change() -> None:
    engine = engine_of(accumulation=2)
    engine.set_train_batch_size(12)
    assert engine.gradient_accumulation_steps() == 3 and engine.train_batch_size() == 12
    assert train(engine, 4) == pytest.approx(plain_losses(4, accumulation=3), rel=1e-5)
    with pytest.raises(ValueError, match="multiple"):
        engine.set_train_batch_size(7)
    engine.destroy()


# ---- The program counts ----


@pytest.mark.parametrize("device", ["none", "cpu", "nvme"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_unmanaged_accumulation_is_the_same_as_managed(stage: int, device: str, tmp_path: Path) -> None:
    if device != "none" and stage != 3:
        pytest.skip("offload is covered in stage 3")
    zero = offloaded(stage, device, tmp_path)
    managed = engine_of(accumulation=3, zero_optimization=zero)
    train(managed, 2)
    expected = values(managed)
    managed.destroy()
    engine = engine_of(accumulation=3, zero_optimization=zero, managed_gradient_accumulation=False)
    for index, batch in enumerate(batches(6)):
        engine.backward(loss_of(engine, batch))
        if index % 3 == 2:
            engine.step()
    assert (engine.global_steps, engine.global_samples) == (2, 24)
    found = values(engine)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    with pytest.raises(AssertionError, match="managed_gradient_accumulation"):
        engine.set_gradient_accumulation_boundary(True)
    with pytest.raises(AssertionError, match="managed_gradient_accumulation"), engine.coalesce_grad_reduction():
        pass
    engine.destroy()


# ---- Contexts ----


@pytest.mark.parametrize("stage", [0, 1])
def test_no_sync_sums(stage: int) -> None:
    engine = engine_of(stage=stage, accumulation=2)
    one, two = batches(2)
    with engine.no_sync():
        engine.backward(loss_of(engine, one))
        with pytest.raises(AssertionError, match=r"illegal to call Engine.step\(\) inside no_sync"):
            engine.step()
        with pytest.raises(AssertionError, match="reentry is unsupported"), engine.no_sync():
            pass
    engine.backward(loss_of(engine, two))
    assert_close(gradients(engine), plain_gradients(0.5, 2))
    engine.destroy()


@pytest.mark.parametrize("stage", [2, 3])
def test_no_sync_is_for_whole_gradients(stage: int) -> None:
    engine = engine_of(stage=stage)
    with pytest.raises(AssertionError, match="no_sync context manager is incompatible"), engine.no_sync():
        pass
    engine.destroy()


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_coalescing_gives_what_the_ordinary_way_does(stage: int) -> None:
    engine = engine_of(stage=stage, accumulation=2)
    for update in range(3):
        with engine.coalesce_grad_reduction():
            for batch in batches(6)[2 * update : 2 * update + 2]:
                engine.backward(loss_of(engine, batch))
            with pytest.raises(AssertionError, match="no_sync"):
                engine.step()
            with pytest.raises(AssertionError, match="nested"), engine.coalesce_grad_reduction():
                pass
        engine.set_gradient_accumulation_boundary(True)
        engine.step()
    ordinary = engine_of(stage=stage, accumulation=2)
    train(ordinary, 3)
    assert_close(values(engine), values(ordinary), rtol=0, atol=1e-6)
    engine.destroy()
    ordinary.destroy()


# ---- backward() by the program ----


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_programs_own_backward(stage: int, precision: str, tmp_path: Path) -> None:
    engine = engine_of(precision=precision, accumulation=2, zero_optimization=offloaded(stage, "none", tmp_path))
    for batch in batches(2):
        loss_of(engine, batch).backward()
        expected = plain_gradients(0.5, 1 + (batch is not None and engine.micro_steps), precision)
        assert_close(gradients(engine), expected, **({} if precision == "fp32" else {"rtol": 2e-2, "atol": 1e-3}))
        engine.step()
    assert counts(engine) == (2, 1, 8)
    engine.destroy()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_scaled_loss_is_the_same_as_engine_backward(precision: str, accumulation: int) -> None:
    settings: dict[str, Any] = {"precision": precision, "accumulation": accumulation, "stage": 2}
    one, other = engine_of(**settings), engine_of(**settings)
    train(one, 2)
    for batch in batches(2 * accumulation):
        other.scale(loss_of(other, batch)).backward()
        other.step()
    assert one.digest() == other.digest()
    assert one.needs_scaler() == (precision == "fp16")
    with pytest.raises(AssertionError, match="scalar tensor"):
        one.scale(torch.ones(2))
    one.destroy()
    other.destroy()


def test_an_unscaled_loss_in_fp16_is_refused_and_training_goes_on() -> None:
    engine = engine_of(precision="fp16", stage=2)
    with pytest.raises(RuntimeError, match="Loss scaling is required"):
        loss_of(engine, batches(1)[0]).backward()
    assert train(engine, 2) == pytest.approx(plain_losses(2, "fp16"), rel=2e-3)
    engine.destroy()


def test_losses_of_several_heads_are_summed() -> None:
    class Heads(TwoLayers):
        def forward(self, x: Tensor) -> Any:
            out = super().forward(x)
            return {"one": out, "more": (out * 2, [out * 3])}

    torch.manual_seed(7)
    engine = engine_of(Heads(), stage=3, accumulation=2)
    x, y = batches(1)[0]
    out = engine(x)
    (sum(((part - y) ** 2).mean() for part in (out["one"], out["more"][0], out["more"][1][0]))).backward()
    net = model()
    plain = net(x)
    (sum(((part - y) ** 2).mean() for part in (plain, plain * 2, plain * 3)) / 2).backward()
    assert_close(gradients(engine), {name: parameter.grad for name, parameter in net.named_parameters()})
    engine.destroy()


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_one_loss_over_several_engines(stage: int) -> None:
    engines = [engine_of(stage=stage, accumulation=2) for _ in range(3)]
    for batch in batches(4):
        sum(loss_of(engine, batch) for engine in engines).backward()
        for engine in engines:
            engine.step()
    single = engine_of(stage=stage, accumulation=2)
    train(single, 2)
    assert {engine.digest() for engine in engines} == {single.digest()}
    for engine in [*engines, single]:
        engine.destroy()


def test_torch_func_goes_through_the_engine() -> None:
    engine = engine_of(stage=2, accumulation=2)
    x, y = batches(1)[0]
    parameters = {f"module.{name}": tensor.detach().clone() for name, tensor in engine.module.named_parameters()}

    def loss(given: dict[str, Tensor]) -> Tensor:
        return ((torch.func.functional_call(engine, given, (x,)) - y) ** 2).mean()

    found = torch.func.grad(loss)(parameters)
    assert_close({name.removeprefix("module."): value for name, value in found.items()}, plain_gradients())
    assert train(engine, 2) == pytest.approx(plain_losses(2, accumulation=2), rel=1e-5)
    engine.destroy()
