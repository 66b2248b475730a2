"""The blocks bf16 and fp16."""

from __future__ import annotations

import math
from typing import Any

from pydantic import field_validator, model_validator

from .config_utils import DeepSpeedConfigModel

BFLOAT16 = "bf16"
BFLOAT16_OLD = "bfloat16"
FP16 = "fp16"


class DeepSpeedBF16Config(DeepSpeedConfigModel):
    """The model computes in bf16."""

    enabled: bool = False
    immediate_grad_update: bool = False
    check_grad_overflow: bool = True
    bf16_master_weights_and_grads: bool = False
    bf16_optimizer_states: bool = False


class DeepSpeedFP16Config(DeepSpeedConfigModel):
    """The model computes in fp16, its losses scaled."""

    enabled: bool = False
    auto_cast: bool = False
    loss_scale: float = 0
    initial_scale_power: int = 16
    loss_scale_window: int = 1000
    hysteresis: int = 2
    consecutive_hysteresis: bool = False
    min_loss_scale: float = 1
    fp16_master_weights_and_grads: bool = False

    @field_validator("loss_scale", mode="before")
    @classmethod
    def _is_a_scale(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError(f"fp16.loss_scale must be a number, not a {type(value).__name__}")
        try:
            return float(value)
        except ValueError:
            raise ValueError(f"fp16.loss_scale must be a number, not {value!r}") from None

    @field_validator("loss_scale")
    @classmethod
    def _is_finite(cls, value: float) -> float:
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"fp16.loss_scale must be finite and >= 0 (0: dynamic), not {value}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _check_dynamic_scale(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not given.get("enabled") or given.get("loss_scale", 0) != 0:
            return given
        for name in ("loss_scale_window", "min_loss_scale"):
            value = given.get(name, 1)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ValueError(f"fp16.{name} must be a number > 0 where the loss scale is dynamic, not {value!r}")
        return given

    @property
    def dynamic_loss_scale(self) -> bool:
        """Whether the scale follows overflows."""
        return self.loss_scale == 0


def get_bfloat16_config(param_dict: dict[str, Any]) -> DeepSpeedBF16Config:
    """The block of a configuration, under either of its names."""
    return DeepSpeedBF16Config(**(param_dict.get(BFLOAT16, param_dict.get(BFLOAT16_OLD)) or {}))


def get_float16_config(param_dict: dict[str, Any]) -> DeepSpeedFP16Config:
    """The block of a configuration."""
    return DeepSpeedFP16Config(**(param_dict.get(FP16) or {}))
