"""What DeepSpeed's users import to work on checkpoints."""

from __future__ import annotations

from . import utils

UNIVERSAL_CHECKPOINT_INFO = "universal_checkpoint_info"
"""The key of a client_state under which programs describe how their parameters are cut over ranks."""
