"""What the kernel counted for this process."""

from __future__ import annotations

from pathlib import Path


def drive_bytes() -> tuple[int, int]:
    """Bytes this process has had read from drives and written to them, since it began."""
    counts = _numbers(Path("/proc/self/io").read_text())
    return counts["read_bytes"], counts["write_bytes"]


def peak_bytes() -> int:
    """The most memory this process has held (VmHWM)."""
    return _numbers(Path("/proc/self/status").read_text())["VmHWM"] * 1024


def available_memory() -> int:
    """What the kernel would give to new processes without swapping."""
    return _numbers(Path("/proc/meminfo").read_text())["MemAvailable"] * 1024


def _numbers(text: str) -> dict[str, int]:
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    words = ((key, value.split()) for key, value in pairs)
    return {key: int(value[0]) for key, value in words if value and value[0].isdigit()}
