"""LAMB, which Orlop does not have."""

from __future__ import annotations

from ..._missing import missing

FusedLamb = missing("deepspeed.ops.lamb.FusedLamb", 'give torch.optim.AdamW, or write "optimizer": {"type": "AdamW"}')
