"""Optimizers and I/O that work without an engine."""

from __future__ import annotations

from .._missing import refuse_unknown
from . import adagrad, adam, aio, lamb, lion, op_builder
from .op_builder.builder import compatible_ops

__compatible_ops__ = compatible_ops()
__getattr__ = refuse_unknown(__name__)
