"""Lion under the name of DeepSpeed's GPU kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orlop import optim


class FusedLion(optim.Lion):
    """orlop.optim.Lion with DeepSpeed's parameters.

    An engine runs it wherever its parameters are; alone it runs on the host.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        set_grad_none: bool = True,
    ) -> None:
        super().__init__(params, lr, betas, weight_decay)
        self.set_grad_none = set_grad_none

    def zero_grad(self, set_to_none: bool | None = None) -> None:
        """As torch's; by default as `set_grad_none` says."""
        super().zero_grad(self.set_grad_none if set_to_none is None else set_to_none)
