"""What ends a run, or one system's part in it, with one sentence."""

from __future__ import annotations

import traceback


class PeersError(Exception):
    """The run cannot go on; the text is for people."""


class WorkerFailed(Exception):
    """One system could not do one case; the text is its own message, one line."""


def first_line(error: BaseException) -> str:
    """An exception in one line; an assertion without words is told by its source."""
    words = str(error).strip().splitlines()
    if words:
        return f"{type(error).__name__}: {' '.join(words[0].split())}"
    frames = traceback.extract_tb(error.__traceback__)
    source = frames[-1].line if frames else None
    return f"{type(error).__name__}: {source}" if source else type(error).__name__
