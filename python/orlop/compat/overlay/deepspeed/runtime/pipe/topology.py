"""How ranks of a pipeline are arranged, which is not offered."""

from __future__ import annotations

from ..._missing import missing
from ._instead import INSTEAD

ProcessTopology = missing("deepspeed.runtime.pipe.topology.ProcessTopology", INSTEAD)
PipeDataParallelTopology = missing("deepspeed.runtime.pipe.topology.PipeDataParallelTopology", INSTEAD)
PipeModelDataParallelTopology = missing("deepspeed.runtime.pipe.topology.PipeModelDataParallelTopology", INSTEAD)
PipelineParallelGrid = missing("deepspeed.runtime.pipe.topology.PipelineParallelGrid", INSTEAD)
