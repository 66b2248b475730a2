"""DeepSpeed's names over Orlop: an overlay of a package `deepspeed`, put before others on the path when asked to.

import orlop.compat
orlop.compat.activate()  # before transformers, accelerate or deepspeed is imported
import transformers

`orlop run` does it for a command, `orlop compat enable` for an environment: docs/migrating.md.
"""

from __future__ import annotations

from ._activate import activate
from ._environment import Status, disable, enable, status

__all__ = ["Status", "activate", "disable", "enable", "status"]
