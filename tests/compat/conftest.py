"""The overlay comes first: transformers and accelerate look for `deepspeed` when they are imported."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_FIRST = [str(_ROOT / "python" / "orlop" / "compat" / "overlay"), str(_ROOT / "python")]

sys.path[:0] = _FIRST
os.environ["PYTHONPATH"] = os.pathsep.join([*_FIRST, *filter(None, [os.environ.get("PYTHONPATH")])])
