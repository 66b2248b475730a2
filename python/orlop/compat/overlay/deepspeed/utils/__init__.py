"""What DeepSpeed offers beside its engine."""

from __future__ import annotations

from ..runtime.dataloader import RepeatingLoader
from . import groups, logging, numa
from .logging import logger
