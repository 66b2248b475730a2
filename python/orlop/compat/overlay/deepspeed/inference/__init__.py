"""DeepSpeed's inference: names alone. A model without an optimizer runs under ZeRO-3: deepspeed.initialize."""

from __future__ import annotations

from .engine import InferenceEngine, init_inference
