"""Which torch a program runs with."""

from __future__ import annotations

import torch


def required_torch_version(min_version: float | str | None = None, max_version: float | str | None = None) -> bool:
    """Whether torch is at least, or at most, of a version: 2.1 is major 2, minor 1; the patch level does not count."""
    assert (min_version is None) != (max_version is None), "required_torch_version: give min_version or max_version"
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    wanted = _numbers(min_version if max_version is None else max_version)
    return (major, minor) >= wanted if max_version is None else (major, minor) <= wanted


def _numbers(version: float | str | None) -> tuple[int, int]:
    """2.1 and "2.1.3" are (2, 1), 2 is (2, 0)."""
    major, _, rest = str(version).partition(".")
    return int(major), int(rest.partition(".")[0] or 0)
