"""Pipeline parallelism: names alone."""

from __future__ import annotations

from ..runtime.pipe.module import LayerSpec, PipelineModule, TiedLayerSpec

__all__ = ["LayerSpec", "PipelineModule", "TiedLayerSpec"]
