"""Sequences shared by several ranks, which is not offered."""

from __future__ import annotations

from ..._missing import missing

INSTEAD = "ranks that share a sequence are not in this version; shorten it, or checkpoint activations"

UlyssesSPAttentionHF = missing("deepspeed.runtime.sequence_parallel.ulysses_sp.UlyssesSPAttentionHF", INSTEAD)
UlyssesSPDataLoaderAdapter = missing(
    "deepspeed.runtime.sequence_parallel.ulysses_sp.UlyssesSPDataLoaderAdapter", INSTEAD
)
