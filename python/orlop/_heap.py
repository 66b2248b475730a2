"""The C library's heap, which keeps what is freed until told otherwise; nothing is done where it is not glibc's."""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3
_MMAP_THRESHOLD = 1 << 20


def give_back() -> None:
    """Gives the system what has been freed."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def give_back_from_now_on() -> None:
    """Gives the system what has been freed, and large pieces from now on as soon as they are."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
    give_back()
