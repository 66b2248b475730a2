"""The engine that trains and generates with other kernels, which is not offered."""

from __future__ import annotations

from .._missing import missing

DeepSpeedHybridEngine = missing(
    "deepspeed.runtime.hybrid_engine.DeepSpeedHybridEngine", "call the model's own generate() on the engine"
)
