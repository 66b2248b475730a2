"""The library's log lines in Python's `logging`, under the logger named "orlop".

Lines may come from any thread of the library, which then waits for the interpreter's lock; that is why every call
that may wait for such a thread gives the lock up (see `_abi`). Nothing else ever calls from the engine into Python.
"""

from __future__ import annotations

import logging

from ._abi import LogCallback, library
from ._enums import LogLevel

logger = logging.getLogger("orlop")

_LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}

_interrupted = False


def _receive(_user: int | None, level: int, line: bytes) -> None:
    global _interrupted
    try:
        logger.log(_LEVELS.get(LogLevel(level), logging.ERROR), "%s", line.decode("utf-8", "replace"))
    except KeyboardInterrupt:  # Ctrl-C while a line is written: an exception cannot pass through the library
        _interrupted = True
    except Exception:  # a broken handler must not stop training
        logging.lastResort and logging.lastResort.handle(
            logger.makeRecord(logger.name, logging.ERROR, __file__, 0, "a log handler failed", (), None)
        )


_callback = LogCallback(_receive)  # must live as long as the library may call it


def follow_logger() -> None:
    """Asks the library for the levels that the "orlop" logger wants now."""
    wanted = logger.getEffectiveLevel()
    level = next((ours for ours, theirs in _LEVELS.items() if theirs >= wanted), LogLevel.OFF)
    library.log_set(_callback, None, level)


def set_level(name: str) -> None:
    """Sets the "orlop" logger's level, by its name in any case, and what the library sends to it."""
    logger.setLevel(name.upper())
    follow_logger()


def silence() -> None:
    """Waits for a line being written and lets none follow."""
    library.log_set(LogCallback(), None, LogLevel.OFF)


def raise_if_interrupted() -> None:
    """Raises the KeyboardInterrupt that arrived while a log line was written."""
    global _interrupted
    if _interrupted:
        _interrupted = False
        raise KeyboardInterrupt
