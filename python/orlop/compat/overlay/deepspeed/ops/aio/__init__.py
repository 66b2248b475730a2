"""Reading and writing files beside computing: the module that AsyncIOBuilder().load() gives."""

from __future__ import annotations

from ..._missing import missing, refuse_unknown
from ..op_builder.builders import AsyncIOBuilder
from ._handle import aio_handle, aio_read, aio_write, deepspeed_memcpy

gds_handle = missing(
    "deepspeed.ops.aio.gds_handle",
    "files are read into host memory, where the update runs; use aio_handle, and copy to the GPU from a locked tensor",
)

__getattr__ = refuse_unknown(__name__)
