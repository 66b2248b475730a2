"""Pipeline parallelism: names alone."""

from __future__ import annotations

from .module import LayerSpec, PipelineModule, TiedLayerSpec
from .topology import PipeModelDataParallelTopology, ProcessTopology

__all__ = ["LayerSpec", "PipeModelDataParallelTopology", "PipelineModule", "ProcessTopology", "TiedLayerSpec"]
