"""A hard limit on a program's memory: a control group, where this process may make one."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def own_groups() -> Iterator[tuple[Path, str]]:
    """The folders that this process's memory may be limited in, each with the name of the file for the limit."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            yield ROOT / "memory" / path.lstrip("/"), "memory.limit_in_bytes"
            yield ROOT / "memory", "memory.limit_in_bytes"  # what a container sees
        elif controllers == "":
            yield ROOT / path.lstrip("/"), "memory.max"
            yield ROOT, "memory.max"


@contextlib.contextmanager
def group_of(limit: int) -> Iterator[Path | None]:
    """The `cgroup.procs` of a new group with this limit in bytes, for a program to write its number into; None if there
    can be none."""
    made = None
    for folder, name in own_groups():
        made = folder / f"orlop-test-{uuid.uuid4().hex}"
        try:
            made.mkdir()
        except OSError:
            continue
        try:
            (made / name).write_text(str(limit))
            break
        except OSError:  # this hierarchy does not limit memory here
            made.rmdir()
    else:
        made = None
    try:
        yield made and made / "cgroup.procs"
    finally:
        if made is not None:
            made.rmdir()
