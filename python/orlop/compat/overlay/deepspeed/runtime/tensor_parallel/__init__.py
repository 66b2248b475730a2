"""Layers shared by several ranks, which is not offered."""

from __future__ import annotations

from ..._missing import missing

INSTEAD = "ranks that share a layer are not in this version; leave tensor_parallel out"

tp_model_init = missing("deepspeed.tp_model_init", INSTEAD)
