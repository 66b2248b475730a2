"""Collectives and the process group, as `import deepspeed.comm as dist` gives them."""

from __future__ import annotations

from .._missing import refuse_unknown
from .comm import *  # noqa: F403

__getattr__ = refuse_unknown(__name__)
