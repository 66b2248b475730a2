"""deepspeed.utils.safe_*: what the engine has of a parameter, seen and set, in every stage, precision and tier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deepspeed
import pytest
import torch
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_grad,
    safe_get_full_optimizer_state,
    safe_get_local_fp32_param,
    safe_get_local_grad,
    safe_get_local_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_grad,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_grad,
    safe_set_local_optimizer_state,
    safe_update_full_grad_vectorized,
)
from torch import Tensor, nn

torch.set_num_threads(1)

PRECISIONS: dict[str, tuple[dict[str, Any], torch.dtype]] = {
    "fp32": ({}, torch.float32),
    "bf16": ({"bf16": {"enabled": True}}, torch.bfloat16),
    "fp16": ({"fp16": {"enabled": True, "initial_scale_power": 8}}, torch.float16),
}
TIERS = [(0, "none"), (1, "cpu"), (2, "nvme"), (3, "none"), (3, "cpu"), (3, "nvme")]
STATES = ["exp_avg", "exp_avg_sq"]


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(13, 37)
        self.frozen = nn.Linear(37, 37).requires_grad_(False)
        self.second = nn.Linear(37, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.frozen(self.first(x))))


def started(stage: int, device: str, precision: str, path: Path, **changes: Any) -> Any:
    section, _ = PRECISIONS[precision]
    zero: dict[str, Any] = {"stage": stage, "stage3_param_persistence_threshold": 0}
    if device != "none":
        zero["offload_optimizer"] = {"device": device, "nvme_path": str(path)}
    if stage == 3 and device != "none":
        zero["offload_param"] = {"device": device, "nvme_path": str(path)}
    settings = {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_clipping": 0.0,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-2}},
        "zero_optimization": zero,
    }
    torch.manual_seed(7)
    model = TwoLayers()
    return deepspeed.initialize(model=model, model_parameters=model.parameters(), config=settings | section | changes)[
        0
    ]


def backward(engine: Any, seed: int = 1) -> Any:
    dtype = next(engine.module.parameters()).dtype
    x = torch.randn(4, 13, generator=torch.Generator().manual_seed(seed)).to(dtype)
    engine.backward(engine(x).float().pow(2).mean())
    return engine


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("stage", "device"), TIERS)
def test_what_is_set_is_got_and_used(stage: int, device: str, precision: str, tmp_path: Path) -> None:
    engine = started(stage, device, precision, tmp_path)
    model, (_, dtype) = engine.module, PRECISIONS[precision]
    weight, frozen = model.first.weight, model.frozen.weight
    shape = (37, 13)
    assert safe_get_full_grad(weight) is None
    backward(engine)
    gradient = safe_get_full_grad(weight)
    assert gradient is not None and gradient.dtype == torch.float32 and gradient.shape == shape
    assert 0 < gradient.abs().max() < 1
    assert torch.equal(safe_get_local_grad(weight), gradient.flatten())
    assert all(safe_get_full_optimizer_state(weight, key).count_nonzero() == 0 for key in STATES)
    assert safe_get_full_fp32_param(frozen) is safe_get_full_grad(frozen) is None
    assert safe_get_full_optimizer_state(frozen, "exp_avg") is None

    generator = torch.Generator().manual_seed(3)
    new = {key: torch.rand(shape, generator=generator) for key in ("param", *STATES)}
    new["grad"] = torch.rand(shape, generator=generator).to(dtype).float()
    safe_set_full_fp32_param(weight, new["param"])
    safe_set_full_grad(weight, new["grad"])
    for key in STATES:
        safe_set_full_optimizer_state(weight, new[key], key)
    safe_set_full_fp32_param(frozen, torch.zeros(37, 37))
    assert torch.equal(safe_get_full_fp32_param(weight), new["param"])
    assert torch.equal(safe_get_full_grad(weight), new["grad"])
    assert all(torch.equal(safe_get_full_optimizer_state(weight, key), new[key]) for key in STATES)
    with deepspeed.zero.GatheredParameters([weight, frozen]):
        assert torch.equal(weight.detach(), new["param"].to(dtype))
        assert frozen.count_nonzero() > 0

    engine.step()
    assert engine.was_step_applied() and safe_get_full_grad(weight) is None
    first, second = (safe_get_full_optimizer_state(weight, key) for key in STATES)
    assert torch.allclose(first, 0.9 * new["exp_avg"] + 0.1 * new["grad"], rtol=1e-5)
    assert torch.allclose(second, 0.999 * new["exp_avg_sq"] + 0.001 * new["grad"] ** 2, rtol=1e-5)
    stepped = 0.01 * (first / 0.1) / ((second / 0.001).sqrt() + 1e-8)
    assert torch.allclose(safe_get_full_fp32_param(weight), new["param"] - stepped, atol=1e-5)
    engine.destroy()


def test_local_parts_are_flat_and_set_as_the_whole_is(tmp_path: Path) -> None:
    engine = backward(started(3, "none", "bf16", tmp_path))
    weight = engine.module.second.weight
    values = torch.arange(5 * 37.0)
    safe_set_local_fp32_param(weight, values)
    safe_set_local_grad(weight, values.bfloat16().float())
    safe_set_local_optimizer_state(weight, values, "exp_avg")
    assert torch.equal(safe_get_local_fp32_param(weight), values)
    assert torch.equal(safe_get_local_optimizer_state(weight, "exp_avg"), values)
    assert torch.equal(safe_get_full_grad(weight), values.bfloat16().float().view(5, 37))
    with pytest.raises(ValueError, match="185 values|give 185"):
        safe_set_local_fp32_param(weight, values[1:])
    with pytest.raises(KeyError, match="'nothing': must be one of exp_avg, exp_avg_sq"):
        safe_get_full_optimizer_state(weight, "nothing")
    engine.destroy()


def test_accumulated_gradients_can_be_updated_and_count_in_the_norm(tmp_path: Path) -> None:
    engine = started(2, "cpu", "bf16", tmp_path, gradient_accumulation_steps=2)
    backward(engine).step()
    half = safe_get_full_grad(engine.module.first.weight)
    backward(engine, seed=1)
    whole = safe_get_full_grad(engine.module.first.weight)
    assert torch.allclose(whole, 2 * half)
    trained = [parameter for parameter in engine.module.parameters() if parameter.requires_grad]
    safe_update_full_grad_vectorized(trained, lambda gradient, _: torch.full_like(gradient, 0.5))
    engine.step()
    count = sum(parameter.numel() for parameter in trained)
    assert engine.get_global_grad_norm() == pytest.approx((0.25 * count) ** 0.5)
    engine.destroy()


def test_states_of_an_optimizer_that_torch_runs(tmp_path: Path) -> None:
    torch.manual_seed(7)
    model = TwoLayers()
    optimizer = torch.optim.RMSprop([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    settings = {
        "train_micro_batch_size_per_gpu": 4,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
    }
    engine = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)[0]
    weight = model.first.weight
    assert safe_get_full_optimizer_state(weight, "square_avg") is None
    backward(engine).step()
    assert safe_get_full_optimizer_state(weight, "square_avg").count_nonzero() > 0
    safe_set_full_optimizer_state(weight, torch.ones(37, 13), "square_avg")
    backward(engine, seed=2)
    safe_set_full_grad(weight, torch.ones(37, 13))
    before = safe_get_full_fp32_param(weight)
    engine.step()
    factor = min(1.0, 1.0 / (engine.get_global_grad_norm() + 1e-6))
    second = 0.99 + 0.01 * factor**2
    assert torch.allclose(safe_get_full_fp32_param(weight), before - 0.01 * factor / second**0.5, atol=1e-6)
    with pytest.raises(KeyError, match="'exp_avg': must be one of step, square_avg"):
        safe_get_full_optimizer_state(weight, "exp_avg")
    engine.destroy()


def test_a_gradient_that_fp16_cannot_hold_is_refused(tmp_path: Path) -> None:
    engine = backward(started(3, "none", "fp16", tmp_path))
    with pytest.raises(ValueError, match=r"first.bias grad: 256000 with the loss scale \(256\)"):
        safe_set_full_grad(engine.module.first.bias, torch.full((37,), 1000.0))
    engine.destroy()


def test_tensors_that_no_engine_has() -> None:
    layer = nn.Linear(2, 2)
    assert safe_get_full_fp32_param(layer.weight) is None
    assert safe_get_local_grad(layer.weight) is None
    safe_set_full_grad(layer.weight, torch.ones(2, 2))
