"""The optimizer of an engine with ZeRO stage 3."""

from __future__ import annotations

from ..base_optimizer import ZeROOptimizer


class DeepSpeedZeroOptimizer_Stage3(ZeROOptimizer):
    """Stage 3."""
