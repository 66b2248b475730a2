"""The optimizer of a bf16 engine without ZeRO."""

from __future__ import annotations

from torch import Tensor

from .base_optimizer import ZeROOptimizer


class BF16_Optimizer(ZeROOptimizer):
    """bf16 with fp32 masters, without ZeRO."""

    @property
    def fp32_groups_flat_partition(self) -> list[Tensor]:
        """Of each group this rank's part of the fp32 masters, flat: a copy."""
        return self._flat_masters()
