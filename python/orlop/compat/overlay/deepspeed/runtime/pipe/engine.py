"""The engine of a pipeline, which is not offered."""

from __future__ import annotations

from ..._missing import missing
from ._instead import INSTEAD

PipelineEngine = missing("deepspeed.runtime.pipe.engine.PipelineEngine", INSTEAD)
