"""Adam and AdamW over tensors in host memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orlop import optim

from .._host import OnHost, refuse_amsgrad


class DeepSpeedCPUAdam(OnHost, optim.Adam):
    """orlop.optim.Adam with DeepSpeed's parameters. `adamw_mode`: decoupled weight decay."""

    def __init__(
        self,
        model_params: Iterable[Any],
        lr: float = 1e-3,
        bias_correction: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        adamw_mode: bool = True,
        fp32_optimizer_states: bool = True,
    ) -> None:
        refuse_amsgrad("DeepSpeedCPUAdam", amsgrad)
        super().__init__(
            model_params,
            lr,
            betas,
            eps,
            weight_decay,
            decoupled=adamw_mode,
            bias_correction=bias_correction,
            fp32_states=fp32_optimizer_states,
        )
        self.adam_w_mode = adamw_mode
        self.fp32_optimizer_states = fp32_optimizer_states
