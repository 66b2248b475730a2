"""Adagrad over tensors in host memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orlop import optim

from .._host import OnHost, refuse_amsgrad


class DeepSpeedCPUAdagrad(OnHost, optim.Adagrad):
    """orlop.optim.Adagrad with DeepSpeed's parameters."""

    def __init__(
        self,
        model_params: Iterable[Any],
        lr: float = 1e-2,
        eps: float = 1e-10,
        weight_decay: float = 0,
        amsgrad: bool = False,
        fp32_optimizer_states: bool = True,
    ) -> None:
        refuse_amsgrad("DeepSpeedCPUAdagrad", amsgrad)
        super().__init__(model_params, lr, eps, weight_decay, fp32_states=fp32_optimizer_states)
        self.fp32_optimizer_states = fp32_optimizer_states
