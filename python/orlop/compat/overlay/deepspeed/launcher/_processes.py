"""Processes that belong together: started, watched, and ended together.

Signals that the watcher gets are passed on, so that a script can save its work. Ctrl-C at a terminal is not: the
terminal sends it to all of them by itself, and a second one would interrupt the work that the first one began. When one
process fails the others are ended: what they would wait for never comes.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

Process = subprocess.Popen[bytes]

GRACE_SECONDS = 10.0  # between asking the others to end and ending them

_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FROM_TERMINAL = (signal.SIGINT, signal.SIGHUP)
_POLL_SECONDS = 1.0


def run_together(starts: Sequence[Callable[[], Process]]) -> int:
    """Starts processes and waits for all; to be called on the main thread, which alone has signals.

    Returns 0, or the exit status of the first that failed: as a shell says it, 128 + N after signal N.
    """
    with _signals() as arrived:
        children: list[Process] = []
        try:
            for start in starts:
                children.append(start())
        except BaseException:
            _end(children)
            raise
        return _watch(children, arrived)


@contextmanager
def _signals() -> Iterator[int]:
    """Signals are bytes to read from the file descriptor given. Those that are ignored (nohup) stay ignored."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    noted = [signal.SIGCHLD, *(number for number in _PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN)]
    before = {number: signal.signal(number, lambda _number, _frame: None) for number in noted}
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _watch(children: list[Process], arrived: int) -> int:
    is_told = False  # by a signal passed on: each then ends in its own time
    while any(child.poll() is None for child in children) and (is_told or not _failed(children)):
        for number in _read(arrived):
            if number in _PASSED_ON:
                is_told = True
                if not (number in _FROM_TERMINAL and _is_in_foreground()):
                    _send(children, number)
    failed = _failed(children)
    _end(children)
    return _status(failed) if failed else 0


def _read(arrived: int) -> bytes:
    """Signals that have come; waits for one for a while."""
    readable, _, _ = select.select([arrived], [], [], _POLL_SECONDS)
    return os.read(arrived, 64) if readable else b""


def _is_in_foreground() -> bool:
    """Whether a terminal sends its signals to this process, and so to its children too."""
    with suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)
    return False


def _failed(children: list[Process]) -> Process | None:
    return next((child for child in children if child.poll()), None)


def _status(child: Process) -> int:
    return 128 - child.returncode if child.returncode < 0 else child.returncode


def _send(children: list[Process], number: int) -> None:
    for child in children:
        if child.poll() is None:
            child.send_signal(number)


def _end(children: list[Process]) -> None:
    """Asks those that still run to end, then ends them."""
    _send(children, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
