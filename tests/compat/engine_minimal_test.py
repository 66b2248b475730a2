"""deepspeed.initialize as Accelerate and plain scripts call it."""

from __future__ import annotations

import copy
import logging
from typing import Any

import deepspeed
import pytest
import torch
from deepspeed.utils import RepeatingLoader
from torch import Tensor, nn


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(13, 37)
        self.second = nn.Linear(37, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


def config(**changes: Any) -> dict[str, Any]:
    return {
        "train_batch_size": 4,
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 1,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-2, "weight_decay": 0.1}},
        "steps_per_print": float("inf"),
    } | changes


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(11)
    return [(torch.randn(4, 13, generator=generator), torch.randn(4, 5, generator=generator)) for _ in range(count)]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_loss_is_that_of_plain_torch(stage: int) -> None:
    torch.manual_seed(7)
    model = TwoLayers()
    plain = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-2, weight_decay=0.1)
    engine, *_ = deepspeed.initialize(
        model=model, model_parameters=model.parameters(), config_params=config(zero_optimization={"stage": stage})
    )
    assert type(engine) is deepspeed.DeepSpeedEngine
    assert engine.config["zero_optimization"] == {"stage": stage}
    for x, y in batches(10):
        loss = nn.functional.mse_loss(engine(x), y)
        engine.backward(loss)
        engine.step()
        expected = nn.functional.mse_loss(plain(x), y)
        expected.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        assert engine.optimizer.overflow is False
        assert engine.get_global_grad_norm() > 0
    engine.destroy()


def test_every_call_says_so_on_the_logger() -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    deepspeed.utils.logger.addHandler(handler)
    try:
        for _ in range(2):
            deepspeed.initialize(model=TwoLayers(), config=config())[0].destroy()
    finally:
        deepspeed.utils.logger.removeHandler(handler)
    assert sum("DeepSpeed info" in line for line in lines) == 2


def test_a_second_engine_takes_the_model_over() -> None:
    model = TwoLayers()
    first = deepspeed.initialize(model=model, config=config())[0]
    second = deepspeed.initialize(model=model, config=config())[0]
    assert not first.is_open
    second.backward(nn.functional.mse_loss(second(batches(1)[0][0]), batches(1)[0][1]))
    second.step()
    assert second.global_steps == 1
    second.destroy()


def test_a_repeating_loader_begins_again() -> None:
    loader = RepeatingLoader([1, 2])
    assert [next(loader) for _ in range(5)] == [1, 2, 1, 2, 1]
