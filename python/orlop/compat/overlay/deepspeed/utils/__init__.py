"""What DeepSpeed offers beside its engine."""

from __future__ import annotations

from ..runtime.dataloader import RepeatingLoader
from . import logging
from .logging import logger
