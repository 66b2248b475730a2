"""The builders."""

from __future__ import annotations

import orlop

from .builder import OpBuilder


class AsyncIOBuilder(OpBuilder):
    """Reading and writing files beside computing."""

    NAME = "async_io"
    MODULE = "deepspeed.ops.aio"

    def is_compatible(self, verbose: bool = False) -> bool:
        """Whether a queue works here: then NVMe offload does."""
        return bool(orlop.build_info()["queues"])


class CPUAdamBuilder(OpBuilder):
    """Adam in host memory."""

    NAME = "cpu_adam"
    MODULE = "deepspeed.ops.adam.cpu_adam"


class CPUAdagradBuilder(OpBuilder):
    """Adagrad in host memory."""

    NAME = "cpu_adagrad"
    MODULE = "deepspeed.ops.adagrad.cpu_adagrad"


class CPULionBuilder(OpBuilder):
    """Lion in host memory."""

    NAME = "cpu_lion"
    MODULE = "deepspeed.ops.lion.cpu_lion"


class FusedAdamBuilder(OpBuilder):
    """Adam in one pass."""

    NAME = "fused_adam"
    MODULE = "deepspeed.ops.adam.fused_adam"


class FusedLionBuilder(OpBuilder):
    """Lion in one pass."""

    NAME = "fused_lion"
    MODULE = "deepspeed.ops.lion.fused_lion"


class FusedLambBuilder(OpBuilder):
    """LAMB."""

    NAME = "fused_lamb"
    INSTEAD = 'give an optimizer of torch\'s, or write "optimizer": {"type": "AdamW"}'
