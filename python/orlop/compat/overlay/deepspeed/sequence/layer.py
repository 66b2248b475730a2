"""Attention over sequences that several ranks share, which is not offered."""

from __future__ import annotations

from .._missing import missing
from ..runtime.sequence_parallel.ulysses_sp import INSTEAD

DistributedAttention = missing("deepspeed.sequence.layer.DistributedAttention", INSTEAD)
