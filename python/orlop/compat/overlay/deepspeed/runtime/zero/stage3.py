"""The optimizer of an engine with ZeRO stage 3."""

from __future__ import annotations

from torch import Tensor

from ..base_optimizer import ZeROOptimizer


class DeepSpeedZeroOptimizer_Stage3(ZeROOptimizer):
    """Stage 3."""

    @property
    def fp32_partitioned_groups_flat(self) -> list[Tensor]:
        """Of each group this rank's part of the fp32 masters, flat: a copy."""
        return self._flat_masters()
