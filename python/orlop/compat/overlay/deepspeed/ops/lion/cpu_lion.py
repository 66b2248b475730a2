"""Lion over tensors in host memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orlop import optim

from .._host import OnHost


class DeepSpeedCPULion(OnHost, optim.Lion):
    """orlop.optim.Lion with DeepSpeed's parameters."""

    def __init__(
        self,
        model_params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0,
        fp32_optimizer_states: bool = True,
    ) -> None:
        super().__init__(model_params, lr, betas, weight_decay, fp32_states=fp32_optimizer_states)
        self.fp32_optimizer_states = fp32_optimizer_states
