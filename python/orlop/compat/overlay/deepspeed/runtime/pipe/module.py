"""A model as a pipeline of layers, which is not offered."""

from __future__ import annotations

from ..._missing import missing
from ._instead import INSTEAD

PipelineModule = missing("deepspeed.pipe.PipelineModule", INSTEAD)
LayerSpec = missing("deepspeed.pipe.LayerSpec", INSTEAD)
TiedLayerSpec = missing("deepspeed.pipe.TiedLayerSpec", INSTEAD)
