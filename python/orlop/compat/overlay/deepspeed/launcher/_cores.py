"""Which cores a rank's threads run on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from orlop.errors import InvalidArgumentError

from ..utils.numa import parse_range_list


def cores_of(local_rank: int, local_size: int, core_list: str | None) -> list[int]:
    """An equal part of the cores, which are those that this process may use unless a list names them."""
    cores = parse_range_list(core_list) if core_list else sorted(os.sched_getaffinity(0))
    each = len(cores) // local_size
    if each == 0:
        raise InvalidArgumentError(
            f"bind_cores_to_rank: on {local_size} ranks and {len(cores)} cores: each needs one; leave it out"
        )
    return cores[local_rank * each : (local_rank + 1) * each]


@contextmanager
def started_on(cores: list[int] | None) -> Iterator[None]:
    """Processes that are started inside run on these cores; None leaves them as they are."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cores)
    except OSError as error:
        raise InvalidArgumentError(
            f"bind_core_list: on {cores}: {error.strerror}: name cores of this machine"
        ) from None
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
