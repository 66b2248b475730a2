"""A small model with all that a checkpoint must carry, and engines that train it, for the tests of checkpoints."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import deepspeed
import torch
from torch import Tensor, nn

torch.set_num_threads(1)  # so that sums in other processes are the same bit for bit

PRECISIONS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"bf16": {"enabled": True}},
    "fp16": {"fp16": {"enabled": True, "initial_scale_power": 20, "loss_scale_window": 2}},
}
TIERS: dict[str, tuple[str, str]] = {  # of the optimizer's states and of parameters
    "none": ("none", "none"),
    "cpu": ("cpu", "none"),
    "nvme": ("nvme", "none"),
    "all on nvme": ("nvme", "nvme"),
}


class Model(nn.Module):
    """Dropout (random numbers), buffers of two types, a frozen layer, tied weights, a parameter without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 24)
        self.norm = nn.BatchNorm1d(24, affine=False)
        self.base = nn.Linear(24, 24)
        self.base.requires_grad_(False)
        self.second = nn.Linear(24, 12, bias=False)
        self.again = nn.Linear(24, 12, bias=False)
        self.again.weight = self.second.weight
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        hidden = nn.functional.dropout(self.first(x.to(self.first.weight.dtype)), 0.2)
        hidden = self.base(self.norm(hidden.float()).to(hidden.dtype))
        return (self.second(hidden) + self.again(hidden.tanh())) * self.scale


def config(stage: int, folder: Path, tier: str = "none", **changes: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    zero: dict[str, Any] = {"stage": stage, "stage3_param_persistence_threshold": 0}
    for key, device in zip(("offload_optimizer", "offload_param"), TIERS[tier], strict=True):
        if device != "none":
            zero[key] = {"device": device} | ({"nvme_path": str(folder)} if device == "nvme" else {})
    return {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 1,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-2, "weight_decay": 0.1}},
        "gradient_clipping": 0.5,
        "zero_optimization": zero,
    } | changes


@contextmanager
def engine_of(settings: dict[str, Any], seed: int = 5) -> Iterator[deepspeed.DeepSpeedEngine]:
    torch.manual_seed(seed)
    random.seed(seed)
    model = Model()
    engine = deepspeed.initialize(
        model=model,
        model_parameters=[parameter for parameter in model.parameters() if parameter.requires_grad],
        config=settings,
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.7),
    )[0]
    try:
        yield engine
    finally:
        engine.destroy()


def train(engine: deepspeed.DeepSpeedEngine, updates: int) -> list[float]:
    """The losses; batches depend on the number of the micro-batch alone."""
    losses = []
    for _ in range(updates * engine.gradient_accumulation_steps()):
        losses.append(micro_batch(engine))
    return losses


def micro_batch(engine: deepspeed.DeepSpeedEngine) -> float:
    generator = torch.Generator().manual_seed(engine.micro_steps)
    x = torch.randn(4, 12, generator=generator) + random.random()
    loss = engine(x).float().square().mean()
    engine.backward(loss)
    engine.step()
    return loss.item()


def everything(engine: deepspeed.DeepSpeedEngine) -> list[Any]:
    """All that two runs must agree on."""
    return [
        engine.digest(),
        engine.global_steps,
        engine.skipped_steps,
        engine.loss_scale(),
        engine.get_lr(),
        {name: buffer.tolist() for name, buffer in engine.module.named_buffers()},
        random.random(),
        torch.rand(2).tolist(),
    ]


def tiny_llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=256,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            tie_word_embeddings=True,
        )
    )
