"""The states of the random number generators that training draws from."""

from __future__ import annotations

import random
import sys
from typing import Any

import torch


def states() -> dict[str, Any]:
    """Of Python, torch (CPU and every CUDA device that is in use) and, where it is loaded, numpy."""
    found: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        found["cuda"] = torch.cuda.get_rng_state_all()
    if "numpy" in sys.modules:
        found["numpy"] = sys.modules["numpy"].random.get_state()
    return found


def restore(saved: dict[str, Any]) -> None:
    """Goes on where `states` was called."""
    random.setstate(saved["python"])
    torch.set_rng_state(saved["torch"])
    if "cuda" in saved and torch.cuda.is_available():
        for device, state in zip(range(torch.cuda.device_count()), saved["cuda"], strict=False):
            torch.cuda.set_rng_state(state, device)
    if "numpy" in saved and "numpy" in sys.modules:
        sys.modules["numpy"].random.set_state(saved["numpy"])
