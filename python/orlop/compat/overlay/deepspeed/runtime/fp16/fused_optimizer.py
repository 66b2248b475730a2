"""The optimizer of an fp16 engine without ZeRO."""

from __future__ import annotations

from torch import Tensor

from ..base_optimizer import DeepSpeedOptimizer
from .loss_scaler import LossScalerBase


class FP16_Optimizer(DeepSpeedOptimizer):
    """fp16 without ZeRO."""

    @property
    def loss_scale_config(self) -> LossScalerBase:
        """The loss scale, by the name it has without ZeRO."""
        return self.loss_scaler

    @property
    def fp32_groups_flat(self) -> list[Tensor]:
        """Of each group the fp32 masters, flat: a copy."""
        return self._flat_masters()
