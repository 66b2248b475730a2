"""Counting a model's operations."""

from __future__ import annotations

from .profiler import FlopsProfiler, get_model_profile
