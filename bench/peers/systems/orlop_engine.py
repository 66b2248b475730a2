"""Orlop with no tuning at all: the configuration that DeepSpeed gets by default."""

from __future__ import annotations

import orlop
from torch import Tensor, nn

from ..setting import Setting, configuration


class OrlopEngine:
    def __init__(self, engine: orlop.Engine) -> None:
        self._engine = engine

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self._engine(tokens)
        return logits

    def backward(self, loss: Tensor) -> None:
        self._engine.backward(loss)

    def step(self) -> None:
        self._engine.step()

    def close(self) -> None:
        self._engine.close()


def start(setting: Setting, model: nn.Module) -> OrlopEngine:
    return OrlopEngine(orlop.initialize(model=model, config=configuration(setting))[0])
