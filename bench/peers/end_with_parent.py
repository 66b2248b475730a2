"""Processes of a run end when the one that started them does, however that ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT = "ORLOP_PEERS_PARENT"
_PR_SET_PDEATHSIG = 1


def environment() -> dict[str, str]:
    """What a child needs to know; the asking side's."""
    return {PARENT: str(os.getpid())}


def ask() -> None:
    """Has the kernel kill this process with its parent; ends it at once if that is gone already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.environ.get(PARENT, str(os.getppid())) != str(os.getppid()):
        sys.exit("its parent has ended")
