"""The logger that programs written for DeepSpeed attach handlers to and set the level of."""

from __future__ import annotations

import logging
import sys


def _make_logger() -> logging.Logger:
    made = logging.getLogger("DeepSpeed")
    made.setLevel(logging.WARNING)  # as DeepSpeed's: programs set it
    made.propagate = False
    if not made.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("[%(asctime)s] [%(levelname)s] [%(name)s] %(message)s"))
        made.addHandler(handler)
    return made


logger = _make_logger()
