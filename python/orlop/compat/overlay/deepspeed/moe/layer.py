"""DeepSpeed's layer of experts, which is not offered."""

from __future__ import annotations

from .._missing import missing

MoE = missing("deepspeed.moe.layer.MoE", "use a layer of experts of torch or Transformers; it trains as any other")
