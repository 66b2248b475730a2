"""Building a model on a device, in a type."""

from __future__ import annotations

import contextlib
from types import TracebackType

import torch

__all__ = ["OnDevice"]


class OnDevice:
    """Inside the block, tensors that are made without a device are on this one, floating-point ones of this type.

    dtype: None leaves it. device: "meta" makes shapes without values. enabled: false makes the block do nothing.
    """

    def __init__(self, dtype: torch.dtype | None, device: str | torch.device = "meta", enabled: bool = True) -> None:
        self.dtype, self.device, self.enabled = dtype, torch.device(device), enabled
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> OnDevice:
        if self.enabled:
            self._stack.enter_context(self.device)
            if self.dtype is not None:
                self._stack.callback(torch.set_default_dtype, torch.get_default_dtype())
                torch.set_default_dtype(self.dtype)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
