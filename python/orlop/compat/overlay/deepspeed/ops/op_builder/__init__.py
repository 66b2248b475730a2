"""What DeepSpeed compiles at its first use. Here all is compiled: a builder says whether it works, and loads it."""

from __future__ import annotations

from ..._missing import refuse_unknown
from .builder import OpBuilder, compatible_ops
from .builders import (
    AsyncIOBuilder,
    CPUAdagradBuilder,
    CPUAdamBuilder,
    CPULionBuilder,
    FusedAdamBuilder,
    FusedLambBuilder,
    FusedLionBuilder,
)

__getattr__ = refuse_unknown(__name__)
