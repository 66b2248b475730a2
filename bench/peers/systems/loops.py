"""What the systems' loops have in common: an engine around the model, or the model itself."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class EngineLoop:
    """DeepSpeed's calls, which Orlop's engine has, too."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self._engine(tokens)
        return logits

    def backward(self, loss: Tensor) -> None:
        self._engine.backward(loss)

    def step(self) -> None:
        self._engine.step()

    def close(self) -> None:
        pass


class ModelLoop:
    """torch's own passes; the update is the system's."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._params = list(model.parameters())

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self._model(tokens)
        return logits

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def close(self) -> None:
        pass
