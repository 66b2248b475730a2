"""`aio_handle`: tensors and files over a queue of Orlop's."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

import torch
from orlop._file_queue import MOST_MOVES, FileQueue
from orlop._host_pool import HostPool
from orlop.errors import InvalidArgumentError
from torch import Tensor

_ALIGNMENT = 4096  # of memory that goes past the page cache


class aio_handle:
    """Moves the bytes of CPU tensors from and to files, of any size and at any offset.

    block_size: bytes of one request; queue_depth: requests in flight; intra_op_parallelism: threads, for machines whose
    only queue is made of threads. single_submit and overlap_events are kept and change nothing: requests are submitted
    in batches, while others complete. Thread-safe. Every call gives the interpreter's lock up while it waits. What
    fails raises an OrlopError (FileNotFoundError, OSError, ValueError ...) that names the file.
    """

    def __init__(
        self,
        block_size: int = 1 << 20,
        queue_depth: int = 128,
        single_submit: bool = False,
        overlap_events: bool = False,
        intra_op_parallelism: int = 1,
    ) -> None:
        numbers = {
            "block_size": block_size,
            "queue_depth": queue_depth,
            "intra_op_parallelism": intra_op_parallelism,
        }
        for name, value in numbers.items():
            if value < 1:
                raise InvalidArgumentError(f"aio_handle: on {name} {value}: must be at least 1")
        self._numbers = numbers
        self._single_submit, self._overlap_events = single_submit, overlap_events
        self._queue = FileQueue(block_size, queue_depth, intra_op_parallelism)
        self._lock = threading.Lock()
        self._begun: list[tuple[int, Tensor]] = []  # and the tensors that they move
        self._done = 0  # of the asynchronous ones, since the last wait()

    # ---- What it was made with ----

    def get_block_size(self) -> int:
        return self._numbers["block_size"]

    def get_queue_depth(self) -> int:
        return self._numbers["queue_depth"]

    def get_single_submit(self) -> bool:
        return self._single_submit

    def get_overlap_events(self) -> bool:
        return self._overlap_events

    def get_intra_op_parallelism(self) -> int:
        return self._numbers["intra_op_parallelism"]

    def get_alignment(self) -> int:
        """What buffers are best aligned to; any other works, too."""
        return _ALIGNMENT

    # ---- Moves that are done when the call returns: 1 ----

    def sync_pread(self, buffer: Tensor, filename: str, file_offset: int = 0) -> int:
        """Fills a tensor from a file. Returns 1."""
        return self._finish(self._begin_read(buffer, filename, file_offset))

    def sync_pwrite(self, buffer: Tensor, filename: str, file_offset: int = 0) -> int:
        """Writes a tensor to a file, which is made if it is not there. Returns 1."""
        return self._finish(self._begin_write(buffer, filename, file_offset))

    def read(self, buffer: Tensor, filename: str, validate: bool, file_offset: int = 0) -> int:
        """As sync_pread. Every transfer is validated."""
        return self.sync_pread(buffer, filename, file_offset)

    def write(self, buffer: Tensor, filename: str, validate: bool, file_offset: int = 0) -> int:
        """As sync_pwrite. Every transfer is validated."""
        return self.sync_pwrite(buffer, filename, file_offset)

    # ---- Moves that `wait` waits for: 0 ----

    def async_pread(self, buffer: Tensor, filename: str, file_offset: int = 0) -> int:
        """Begins to fill a tensor, which must not be used before `wait()`. Returns 0."""
        return self._keep(self._begin_read(buffer, filename, file_offset), buffer)

    def async_pwrite(self, buffer: Tensor, filename: str | None = None, file_offset: int = 0, fd: Any = None) -> int:
        """Begins to write a tensor, which must not change before `wait()`. Returns 0.

        The file may also be given as the number of a descriptor.
        """
        return self._keep(self._begin_write(buffer, filename if fd is None else fd, file_offset), buffer)

    def pread(self, *args: Any, **kwargs: Any) -> int:
        """buffer, filename, validate, async, file_offset=0: async_pread where `async` is true, else sync_pread."""
        is_async, buffer, filename, file_offset = _arguments(*args, **kwargs)
        return (self.async_pread if is_async else self.sync_pread)(buffer, filename, file_offset)

    def pwrite(self, *args: Any, **kwargs: Any) -> int:
        """buffer, filename, validate, async, file_offset=0: async_pwrite where `async` is true, else sync_pwrite."""
        is_async, buffer, filename, file_offset = _arguments(*args, **kwargs)
        return (self.async_pwrite if is_async else self.sync_pwrite)(buffer, filename, file_offset)

    def wait(self) -> int:
        """Waits for all that was begun; how many moves were done since the last time. Raises the first one's error."""
        with self._lock:
            begun, self._begun = self._begun, []
            count, self._done = self._done, 0
        errors: list[Exception] = []
        for ticket, _tensor in begun:
            try:
                self._queue.wait(ticket)
                count += 1
            except Exception as error:  # the others are waited for all the same: their tensors are the program's again
                errors.append(error)
        if errors:
            raise errors[0]
        return count

    # ---- Locked memory ----

    def new_cpu_locked_tensor(self, num_elem: int, example_tenosr: Tensor) -> Tensor:
        """A tensor of so many elements of the example's type, without defined values, in memory that GPUs copy fast.

        It goes with its last reference, or with free_cpu_locked_tensor.
        """
        tensor = _pool().empty([num_elem], example_tenosr.dtype)
        with _locked_lock:
            _locked[tensor.data_ptr()] = tensor
        return tensor

    def free_cpu_locked_tensor(self, tensor: Tensor) -> bool:
        """Lets go of such a tensor; False for any other."""
        with _locked_lock:
            return _locked.pop(tensor.data_ptr(), None) is not None

    def is_pinned(self, buffer: Tensor) -> bool:
        """Whether a tensor is in locked memory."""
        with _locked_lock:
            return buffer.data_ptr() in _locked or (torch.cuda.is_available() and buffer.is_pinned())

    # ---- Within ----

    def _begin_read(self, buffer: Tensor, file: str | int, offset: int) -> int:
        self._make_room()
        return self._queue.read(_path(file), offset, *_memory("read", buffer, file))

    def _begin_write(self, buffer: Tensor, file: str | int | None, offset: int) -> int:
        self._make_room()
        return self._queue.write(_path(file), offset, *_memory("write", buffer, file))

    def _finish(self, ticket: int) -> int:
        self._queue.wait(ticket)
        return 1

    def _keep(self, ticket: int, buffer: Tensor) -> int:
        with self._lock:
            self._begun.append((ticket, buffer))
        return 0

    def _make_room(self) -> None:
        """The queue takes so many moves; more of them wait for the first."""
        with self._lock:
            oldest = self._begun.pop(0) if len(self._begun) >= MOST_MOVES // 2 else None
        if oldest is not None:
            self._queue.wait(oldest[0])
            with self._lock:
                self._done += 1


def _path(file: str | int | os.PathLike[str] | None) -> str:
    if file is None:
        raise InvalidArgumentError("aio_handle: on the file: give its name as filename, or its descriptor as fd")
    return f"/proc/self/fd/{file}" if isinstance(file, int) else os.fspath(file)


def _memory(what: str, buffer: Tensor, file: Any) -> tuple[int, int]:
    """A tensor's bytes and their address."""
    if buffer.device.type != "cpu" or not buffer.is_contiguous():
        kind = f"on {buffer.device}" if buffer.device.type != "cpu" else "not contiguous"
        raise InvalidArgumentError(
            f"aio_handle: {what} {file}: the tensor of shape {tuple(buffer.shape)} is {kind}: give a contiguous one of "
            "the CPU"
        )
    return buffer.nbytes, buffer.data_ptr()


def _arguments(
    buffer: Tensor, filename: str, validate: bool = False, is_async: bool = False, file_offset: int = 0, **named: bool
) -> tuple[bool, Tensor, str, int]:
    """`async` is a word of Python's, so that it can only be given by place or in a dict."""
    if set(named) - {"async"}:
        raise TypeError(f"unexpected keyword arguments: {', '.join(sorted(set(named) - {'async'}))}")
    return named.get("async", is_async), buffer, filename, file_offset


def aio_read(
    buffer: Tensor,
    filename: str,
    block_size: int,
    queue_depth: int,
    single_submit: bool,
    overlap_events: bool,
    validate: bool,
) -> int:
    """Fills a tensor from a file, through a handle of its own. Returns 1."""
    return aio_handle(block_size, queue_depth, single_submit, overlap_events).sync_pread(buffer, filename)


def aio_write(
    buffer: Tensor,
    filename: str,
    block_size: int,
    queue_depth: int,
    single_submit: bool,
    overlap_events: bool,
    validate: bool,
) -> int:
    """Writes a tensor to a file, through a handle of its own. Returns 1."""
    return aio_handle(block_size, queue_depth, single_submit, overlap_events).sync_pwrite(buffer, filename)


def deepspeed_memcpy(dest: Tensor, src: Tensor) -> int:
    """Copies a tensor's values. Returns 0."""
    dest.copy_(src)
    return 0


_locked: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()
_locked_lock = threading.Lock()
_locked_pool: list[HostPool] = []


def _pool() -> HostPool:
    """One for the process, made when it is first needed."""
    with _locked_lock:
        if not _locked_pool:
            device = f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"
            _locked_pool.append(HostPool(torch.device(device), is_locked=True))
        return _locked_pool[0]
