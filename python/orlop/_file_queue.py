"""A program's own files through a queue of the library's: any bytes of memory, at any offset, whole and checked."""

from __future__ import annotations

import os
import weakref
from ctypes import byref, c_uint64, c_void_p

from ._abi import FileQueueParams, library, sized
from ._enums import Status
from ._log import raise_if_interrupted
from ._native import POLL_MS, check

MOST_MOVES = 256  # that may be without having been waited for


class FileQueue:
    """Owns an `orlop_file_queue *`. Thread-safe; every call gives the interpreter's lock up."""

    def __init__(self, block_bytes: int, depth: int, thread_count: int = 0, queue: str | None = None) -> None:
        """Requests of `block_bytes`, `depth` of them in flight; `thread_count` counts for the queue "threads"."""
        params = sized(FileQueueParams)
        params.block_bytes, params.depth, params.thread_count = block_bytes, depth, thread_count
        params.queue = None if queue is None else queue.encode()
        handle = c_void_p()
        check(library.file_queue_open(byref(params), byref(handle)))
        self._handle = handle
        weakref.finalize(self, library.file_queue_close, byref(handle))  # waits for moves, at the process's end too

    def read(self, path: str, offset: int, nbytes: int, address: int) -> int:
        """Begins to fill memory from a file; the ticket. Raises NotFoundError and others of opening it."""
        ticket = c_uint64()
        check(library.file_queue_read(self._handle, os.fsencode(path), offset, nbytes, address, byref(ticket)))
        return ticket.value

    def write(self, path: str, offset: int, nbytes: int, address: int) -> int:
        """Begins to write memory to a file, which is made if it is not there; the ticket."""
        ticket = c_uint64()
        check(library.file_queue_write(self._handle, os.fsencode(path), offset, nbytes, address, byref(ticket)))
        return ticket.value

    def wait(self, ticket: int) -> None:
        """Returns when a move is done, awake to Ctrl-C. Raises what it failed with, which names the path."""
        while (status := library.file_queue_wait(self._handle, ticket, POLL_MS)) == Status.TIMEOUT:
            raise_if_interrupted()
        check(status)
