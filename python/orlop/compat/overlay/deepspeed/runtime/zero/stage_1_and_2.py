"""The optimizer of an engine with ZeRO stage 1 or 2."""

from __future__ import annotations

from ..base_optimizer import ZeROOptimizer


class DeepSpeedZeroOptimizer(ZeROOptimizer):
    """Stages 1 and 2."""
