"""What the figures were measured on, in one line."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from . import usage


def line(nvme_path: Path, versions: Mapping[str, str], threads: int, load: float) -> str:
    """The machine, the drive, the versions, and how busy others kept it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    words = [
        datetime.date.today().isoformat(),
        f"{_processor()}, {threads} threads of {os.cpu_count()} cores",
        f"{memory:.1f} GiB",
        f"Linux {platform.release()}",
        f"{_filesystem(nvme_path)}",
        *(f"{name} {version}" for name, version in versions.items()),
        f"load before {load:.1f}",
    ]
    return ", ".join(words)


def load() -> float:
    """Processes that want a core, over the last minute."""
    return os.getloadavg()[0]


def available_memory() -> int:
    return usage.available_memory()


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _filesystem(folder: Path) -> str:
    done = subprocess.run(["stat", "-f", "-c", "%T", str(folder)], text=True, capture_output=True)
    return done.stdout.strip() or "unknown filesystem"
