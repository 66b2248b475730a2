"""The overlay comes first: transformers and accelerate look for `deepspeed` when they are imported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_FIRST = [str(_ROOT / "python" / "orlop" / "compat" / "overlay"), str(_ROOT / "python")]

sys.path[:0] = _FIRST
os.environ["PYTHONPATH"] = os.pathsep.join([*_FIRST, *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture(autouse=True)
def fresh_runtime() -> Iterator[None]:
    """Every test as in a process of its own: environment, Accelerate's state, transformers' configuration, engines."""
    environment = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(environment)
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    if "transformers.integrations.deepspeed" in sys.modules:
        from transformers.integrations.deepspeed import unset_hf_deepspeed_config

        unset_hf_deepspeed_config()
    if "orlop" in sys.modules:
        from orlop.engine import close_all

        close_all()
