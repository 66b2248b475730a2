"""GPUDirect Storage, which Orlop does not use."""

from __future__ import annotations

from ..._missing import missing, refuse_unknown

GDSBuilder = missing(
    "deepspeed.ops.gds.GDSBuilder",
    "files are read into host memory, where the update runs; use deepspeed.ops.aio.AsyncIOBuilder",
)

__getattr__ = refuse_unknown(__name__)
