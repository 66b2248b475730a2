"""Optimizers and I/O that work without an engine."""

from __future__ import annotations

from . import adagrad, adam, lion, op_builder
from .op_builder.builder import compatible_ops

__compatible_ops__ = compatible_ops()
