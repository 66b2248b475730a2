"""Where a model's operations are."""

from __future__ import annotations

from . import flops_profiler
