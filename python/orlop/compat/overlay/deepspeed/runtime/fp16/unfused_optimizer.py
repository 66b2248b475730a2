"""The optimizer of an fp16 engine without ZeRO whose optimizer looks at parameters one by one."""

from __future__ import annotations

from torch import Tensor

from ..base_optimizer import DeepSpeedOptimizer
from .loss_scaler import LossScalerBase


class FP16_UnfusedOptimizer(DeepSpeedOptimizer):
    """fp16 without ZeRO, for other optimizers than Adam."""

    @property
    def loss_scale_config(self) -> LossScalerBase:
        """The loss scale, by the name it has without ZeRO."""
        return self.loss_scaler

    @property
    def fp32_groups(self) -> list[list[Tensor]]:
        """Of each group its parameters' fp32 masters: copies."""
        return [
            [self._engine.read_plane(tensor, "master") for tensor in group["params"]] for group in self.param_groups
        ]
