"""The optimizer of an engine with ZeRO stage 1 or 2."""

from __future__ import annotations

from torch import Tensor

from ..base_optimizer import ZeROOptimizer
from .estimators import (
    estimate_zero2_model_states_mem_needs,
    estimate_zero2_model_states_mem_needs_all_cold,
    estimate_zero2_model_states_mem_needs_all_live,
    model_to_params,
)

__all__ = [
    "DeepSpeedZeroOptimizer",
    "estimate_zero2_model_states_mem_needs",
    "estimate_zero2_model_states_mem_needs_all_cold",
    "estimate_zero2_model_states_mem_needs_all_live",
    "model_to_params",
]


class DeepSpeedZeroOptimizer(ZeROOptimizer):
    """Stages 1 and 2."""

    @property
    def single_partition_of_fp32_groups(self) -> list[Tensor]:
        """Of each group this rank's part of the fp32 masters, flat: a copy."""
        return self._flat_masters()
