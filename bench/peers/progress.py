"""Words for whoever waits."""

from __future__ import annotations

import sys


def say(sentence: str) -> None:
    print(f"peers: {sentence}", file=sys.stderr, flush=True)
