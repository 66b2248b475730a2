"""What launchers need to know: how many ranks can train together, and what each is told."""

from __future__ import annotations

import socket

from .errors import UnsupportedError

MOST = 1  # the engine's limit in this version


def check_ranks(what: str, count: int, instead: str) -> None:
    """Raises UnsupportedError, before anything is started, for more ranks than an engine may have.

    what: who asks; instead: what to write for one rank.
    """
    if count > MOST:
        raise UnsupportedError(f"{what}: on {count} ranks: this version trains on one rank; {instead}")


def alone() -> dict[str, str]:
    """The variables that launchers set, for one process."""
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    return ranks | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port
