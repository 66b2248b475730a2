"""What an engine has as its optimizer, whatever its class is called."""

from __future__ import annotations

from orlop import Optimizer


class DeepSpeedOptimizer(Optimizer):
    """Orlop's optimizer with what programs written for DeepSpeed ask of theirs."""

    overflow = False
    """Whether the latest step was skipped because a gradient was not finite."""


class ZeROOptimizer(DeepSpeedOptimizer):
    """With ZeRO, of any stage."""
