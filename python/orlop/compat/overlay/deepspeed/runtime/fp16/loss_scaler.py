"""The loss scale as programs look at it: the engine's own values, under DeepSpeed's names."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..engine import DeepSpeedEngine


class LossScalerBase:
    """What losses are multiplied with. The engine changes it; nothing here is kept beside it."""

    dynamic = False

    def __init__(self, engine: DeepSpeedEngine) -> None:
        self._engine: Any = weakref.proxy(engine)

    @property
    def cur_scale(self) -> float:
        """The scale that the next backward pass uses."""
        scale: float = self._engine.loss_scale()
        return scale

    @property
    def loss_scale(self) -> float:
        """The same."""
        return self.cur_scale

    @property
    def dynamic_loss_scale(self) -> bool:
        """Whether it changes."""
        return self.dynamic


class LossScaler(LossScalerBase):
    """A scale that does not change: the configuration's, or 1."""


class DynamicLossScaler(LossScalerBase):
    """A scale that falls when a gradient is not finite and rises after good steps."""

    dynamic = True
    scale_factor = 2.0

    @property
    def cur_iter(self) -> int:
        """Updates so far, skipped ones included."""
        steps: int = self._engine.global_steps
        return steps

    @property
    def last_overflow_iter(self) -> int:
        """The number, from 0, of the update that was skipped last; -1: none was."""
        good: int = self._engine.stats()["loss_scale_good_steps"]
        return self.cur_iter - good - 1

    @property
    def scale_window(self) -> int:
        """Good steps in a row, after a first one, with which it doubles."""
        return int(self._setting("loss_scale_window"))

    @property
    def min_scale(self) -> float:
        """It does not fall below."""
        return float(self._setting("min_loss_scale"))

    @property
    def min_loss_scale(self) -> float:
        """The same."""
        return self.min_scale

    @property
    def delayed_shift(self) -> int:
        """The overflow, counted from a doubling, that halves it."""
        return int(self._setting("hysteresis"))

    @property
    def consecutive_hysteresis(self) -> bool:
        """Whether every good step begins that count anew."""
        return bool(self._setting("consecutive_hysteresis"))

    @property
    def cur_hysteresis(self) -> int:
        """Overflows until one halves it, that one included."""
        left: int = self._engine.stats()["loss_scale_overflows_left"]
        return left

    def _setting(self, name: str) -> Any:
        return self._engine.setting(f"fp16.{name}")


def loss_scaler_of(engine: DeepSpeedEngine) -> LossScalerBase:
    """The view of an engine's loss scale."""
    is_dynamic = engine.fp16_enabled() and engine.setting("fp16.loss_scale") == 0
    return DynamicLossScaler(engine) if is_dynamic else LossScaler(engine)
