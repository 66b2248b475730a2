"""Small models, batches and configurations for the tests of the overlay's engine."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import deepspeed
import torch
from torch import Tensor, nn

torch.set_num_threads(1)

LEARNING = {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-5, "weight_decay": 0.1}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CLIP = 0.5


class TwoLayers(nn.Module):
    """Sizes that are no multiple of anything, and parameters without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(13, 37)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.second = nn.Linear(37, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x.to(self.first.weight.dtype))) * self.scale)


def model() -> TwoLayers:
    """Always the same."""
    torch.manual_seed(7)
    return TwoLayers()


def batches(count: int, size: int = 4) -> list[tuple[Tensor, Tensor]]:
    """Always the same."""
    generator = torch.Generator().manual_seed(11)
    return [
        (torch.randn(size, 13, generator=generator), torch.randn(size, 5, generator=generator)) for _ in range(count)
    ]


def loss_of(module: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.mse_loss(module(batch[0]).float(), batch[1])


def config(stage: int = 0, precision: str = "fp32", accumulation: int = 1, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": CLIP,
        "optimizer": {"type": "AdamW", "params": copy.deepcopy(LEARNING)},
        "zero_optimization": {"stage": stage},
        "steps_per_print": float("inf"),
    }
    if precision != "fp32":
        found[precision] = {"enabled": True} | ({"initial_scale_power": 8} if precision == "fp16" else {})
    return found | changes


def offloaded(stage: int, device: str, path: Path) -> dict[str, Any]:
    """The zero_optimization block with states, and in stage 3 parameters, on a device."""
    place = {"device": device} | ({"nvme_path": str(path)} if device == "nvme" else {})
    block: dict[str, Any] = {"stage": stage, "offload_optimizer": place}
    if stage == 3 and device != "none":
        block |= {"offload_param": copy.deepcopy(place), "stage3_param_persistence_threshold": 10}
    return block


def engine_of(module: nn.Module | None = None, **settings: Any) -> deepspeed.DeepSpeedEngine:
    """An engine from a configuration alone."""
    module = model() if module is None else module
    return deepspeed.initialize(model=module, model_parameters=module.parameters(), config=config(**settings))[0]


def train(engine: deepspeed.DeepSpeedEngine, updates: int) -> list[float]:
    """The loss of every micro-batch."""
    losses = []
    for batch in batches(updates * engine.gradient_accumulation_steps()):
        loss = loss_of(engine, batch)
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    return losses


def plain_losses(updates: int, precision: str = "fp32", accumulation: int = 1) -> list[float]:
    """The same by PyTorch alone: fp32 masters, and a copy of the model, in 16 bits perhaps, that computes."""
    masters = model()
    computing = copy.deepcopy(masters).to(DTYPES[precision])
    optimizer = torch.optim.AdamW(masters.parameters(), **LEARNING)
    losses: list[float] = []
    for batch in batches(updates * accumulation):
        loss = loss_of(computing, batch)
        losses.append(loss.item())
        (loss / accumulation).backward()
        for master, parameter in zip(masters.parameters(), computing.parameters(), strict=True):
            master.grad = parameter.grad.float() + (0 if master.grad is None else master.grad)
            parameter.grad = None
        if len(losses) % accumulation == 0:
            nn.utils.clip_grad_norm_(masters.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
            with torch.no_grad():
                for master, parameter in zip(masters.parameters(), computing.parameters(), strict=True):
                    parameter.copy_(master)
    return losses


def values(engine: deepspeed.DeepSpeedEngine) -> dict[str, Tensor]:
    """The fp32 masters, wherever they are."""
    return {name: engine.read_plane(name, "master") for name, _ in engine.module.named_parameters()}
