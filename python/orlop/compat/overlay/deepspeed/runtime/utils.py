"""What memory is in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .._missing import refuse_unknown
from ..utils.logging import logger

__all__ = ["see_memory_usage"]

_GB = 1 << 30


def see_memory_usage(message: str, force: bool = False) -> None:
    """Logs the memory in use on the GPU, if there is one, and on the machine; without `force` it does nothing."""
    if not force:
        return
    logger.info("%s", message)
    if torch.cuda.is_available():
        logger.info(
            "MA %.2f GB, Max_MA %.2f GB, CA %.2f GB, Max_CA %.2f GB",
            torch.cuda.memory_allocated() / _GB,
            torch.cuda.max_memory_allocated() / _GB,
            torch.cuda.memory_reserved() / _GB,
            torch.cuda.max_memory_reserved() / _GB,
        )
    total, available = (_meminfo()[key] for key in ("MemTotal", "MemAvailable"))
    used = total - available
    logger.info("CPU Virtual Memory: used = %.2f GB, percent = %.1f%%", used / _GB, 100 * used / total)


def _meminfo() -> dict[str, int]:
    """Bytes by name, as the kernel counts them."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) << 10 for words in lines}


__getattr__: Any = refuse_unknown(__name__)
