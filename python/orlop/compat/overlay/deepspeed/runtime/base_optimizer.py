"""What an engine has as its optimizer, whatever its class is called."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from orlop import Optimizer
from torch import Tensor

from .fp16.loss_scaler import LossScalerBase, loss_scaler_of

if TYPE_CHECKING:
    from .engine import DeepSpeedEngine


class DeepSpeedOptimizer(Optimizer):
    """Orlop's optimizer with what programs written for DeepSpeed ask of theirs."""

    overflow = False
    """Whether the latest step was skipped because a gradient was not finite."""

    loss_scaler: LossScalerBase
    _engine: Any

    def bind(self, engine: DeepSpeedEngine) -> None:
        """Lets it answer for an engine, which it does not keep alive."""
        self._engine = weakref.proxy(engine)
        self.loss_scaler = loss_scaler_of(engine)

    @property
    def optimizer(self) -> torch.optim.Optimizer | None:
        """The torch optimizer whose groups it shares: the program's, or of the class that the configuration names."""
        return self._client

    @property
    def dynamic_loss_scale(self) -> bool:
        """Whether the loss scale changes."""
        return self.loss_scaler.dynamic

    @property
    def loss_scale(self) -> float:
        """What losses are multiplied with."""
        return self.loss_scaler.loss_scale

    @property
    def cur_scale(self) -> float:
        """The same."""
        return self.loss_scaler.cur_scale

    def _flat_masters(self) -> list[Tensor]:
        """Of each group the fp32 values of its parameters, one behind the other: copies, made anew."""
        return [
            torch.cat([self._engine.read_plane(tensor, "master").flatten() for tensor in group["params"]])
            for group in self.param_groups
            if group["params"]
        ]


class ZeROOptimizer(DeepSpeedOptimizer):
    """With ZeRO, of any stage."""
