"""Adam and AdamW under the name of DeepSpeed's GPU kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orlop import optim

from .._host import refuse_amsgrad


class FusedAdam(optim.Adam):
    """orlop.optim.Adam with DeepSpeed's parameters. `adam_w_mode`: decoupled weight decay.

    An engine runs it wherever its parameters are; alone it runs on the host.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        bias_correction: bool = True,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        adam_w_mode: bool = True,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        set_grad_none: bool = True,
    ) -> None:
        refuse_amsgrad("FusedAdam", amsgrad)
        super().__init__(params, lr, betas, eps, weight_decay, decoupled=adam_w_mode, bias_correction=bias_correction)
        self.adam_w_mode = adam_w_mode
        self.set_grad_none = set_grad_none

    def zero_grad(self, set_to_none: bool | None = None) -> None:
        """As torch's; by default as `set_grad_none` says."""
        super().zero_grad(self.set_grad_none if set_to_none is None else set_to_none)
