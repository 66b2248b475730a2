"""The optimizer of an engine with ZeRO stage 3."""

from __future__ import annotations

from torch import Tensor

from ..base_optimizer import ZeROOptimizer
from .estimators import (
    estimate_zero3_model_states_mem_needs,
    estimate_zero3_model_states_mem_needs_all_cold,
    estimate_zero3_model_states_mem_needs_all_live,
    model_to_params,
)
from .generation import unwrap_model_for_generation
from .parameter_offload import DeepSpeedZeRoOffload

__all__ = [
    "DeepSpeedZeroOptimizer_Stage3",
    "estimate_zero3_model_states_mem_needs",
    "estimate_zero3_model_states_mem_needs_all_cold",
    "estimate_zero3_model_states_mem_needs_all_live",
    "model_to_params",
    "unwrap_model_for_generation",
]


class DeepSpeedZeroOptimizer_Stage3(ZeROOptimizer):
    """Stage 3."""

    parameter_offload: DeepSpeedZeRoOffload
    """What brings parameters to modules."""

    @property
    def fp32_partitioned_groups_flat(self) -> list[Tensor]:
        """Of each group this rank's part of the fp32 masters, flat: a copy."""
        return self._flat_masters()
