"""`orlop verify --train`: the same training with and without offload, bit for bit."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._initialize import initialize
from ..config import Config


class Small(nn.Module):
    """0.4 M parameters, of sizes that are no multiple of anything."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(333, 617), nn.GELU(), nn.Linear(617, 333), nn.LayerNorm(333))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


def verify_training(config: str, steps: int) -> int:
    """Prints each update's digests; 1 when they differ."""
    given = Config(config).values
    with tempfile.TemporaryDirectory(prefix="orlop-verify-") as folder:
        offloaded, plain = _digests(_offloaded(given, Path(folder)), steps), _digests(_plain(given), steps)
    for update, (ours, theirs) in enumerate(zip(offloaded, plain, strict=True), 1):
        print(f"update {update}: {ours:016x} as configured, {theirs:016x} without offload", flush=True)
    if offloaded == plain:
        print("the same bits")
        return 0
    print("NOT the same bits: please report it with this configuration")
    return 1


def _offloaded(given: dict[str, Any], folder: Path) -> dict[str, Any]:
    """As configured, in a directory of its own where the configured one is not there."""
    config = given | {"gradient_accumulation_steps": given.get("gradient_accumulation_steps") or 1}
    block = dict(config.get("zero_optimization") or {})
    offload = dict(block.get("offload_optimizer") or {})
    given_paths = offload.get("nvme_path")
    paths = given_paths if isinstance(given_paths, list) else [given_paths]
    if offload.get("device") == "nvme" and not all(Path(str(path)).is_dir() for path in paths):
        offload["nvme_path"] = str(folder)
    return config | {"zero_optimization": block | {"offload_optimizer": offload}}


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    own = {key: value for key, value in (given.get("orlop") or {}).items() if key != "memory"}
    return given | {"zero_optimization": {"stage": 0}, "orlop": own}


def _digests(config: dict[str, Any], steps: int) -> list[int]:
    torch.manual_seed(0)
    found: list[int] = []
    with initialize(model=Small(), config=config)[0] as engine:
        dtype = next(engine.module.parameters()).dtype
        while len(found) < steps:
            loss = engine(torch.randn(4, 333).to(dtype)).float().square().mean()
            engine.backward(loss)
            is_due = engine.is_gradient_accumulation_boundary()
            engine.step()
            if is_due:
                found.append(engine.digest())
    return found
