"""The engine of DeepSpeed's inference, which is not offered."""

from __future__ import annotations

from .._missing import missing

INSTEAD = "deepspeed.initialize without an optimizer runs a model whose parameters are offloaded"

InferenceEngine = missing("deepspeed.inference.engine.InferenceEngine", INSTEAD)
init_inference = missing("deepspeed.init_inference", INSTEAD)
