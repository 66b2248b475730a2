"""One engine of the library: each method is one call of orlop.h, with Python's types and exceptions."""

from __future__ import annotations

import ctypes
import json
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from ctypes import byref, c_char_p, c_double, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any, NamedTuple

from . import _abi
from ._abi import (
    EngineParams,
    GroupParams,
    ImportParams,
    LoadParams,
    ParamDesc,
    Progress,
    SaveParams,
    Stats,
    StepReport,
    Unit,
    library,
    sized,
)
from ._enums import RECLAIM_DRY_RUN, Boundary, DeviceKind, DType, Plane, Status, Use
from ._log import raise_if_interrupted
from .errors import ForkedError, OutOfOrderError, error_of

POLL_MS = 100  # how long a wait keeps Ctrl-C waiting
_EVICTED_AT_ONCE = 256


def check(status: int) -> None:
    """Raises what a status other than OK stands for."""
    if status:
        raise error_of(status, (library.last_error() or b"").decode("utf-8", "replace"))
    raise_if_interrupted()


def _read_json(call: Callable[[Any, int, Any], int]) -> dict[str, Any]:
    """The JSON object that `call(buffer, capacity, needed)` writes."""
    needed = c_size_t(0)
    check(call(None, 0, byref(needed)))
    while True:
        capacity = needed.value
        buffer = ctypes.create_string_buffer(capacity)
        status = call(buffer, capacity, byref(needed))
        if status == Status.INVALID_ARGUMENT and needed.value > capacity:  # it has grown in between
            continue
        check(status)
        value: dict[str, Any] = json.loads(buffer.value)
        return value


def build_info() -> dict[str, Any]:
    """What the library was built with and what this machine offers."""
    value: dict[str, Any] = json.loads(library.build_info())
    return value


def resolve_config(text: str, world_size: int = 1) -> dict[str, Any]:
    """The checked configuration: "values" (every default filled in), "entries", "notes" and "warnings". See orlop.h."""
    raw = text.encode()
    return _read_json(
        lambda buffer, capacity, needed: library.config_resolve(raw, world_size, buffer, capacity, needed)
    )


def describe_checkpoint(directory: str) -> dict[str, Any]:
    """What a checkpoint says of itself. See orlop.h."""
    raw = os.fsencode(directory)
    return _read_json(lambda buffer, capacity, needed: library.checkpoint_describe(raw, buffer, capacity, needed))


class TensorUpdate(NamedTuple):
    """A tensor to update: `orlop_tensor` without its size. Addresses; of a state that the optimizer has not None."""

    param_dtype: DType
    grad_dtype: DType
    state_dtype: DType
    numel: int
    param: int
    grad: int
    exp_avg: int | None
    exp_avg_sq: int | None
    step: int


def update_tensors(group: GroupParams, updates: Sequence[TensorUpdate]) -> None:
    """Updates tensors of the caller's in host memory by one group's values. See orlop.h."""
    size = ctypes.sizeof(_abi.Tensor)
    tensors = (_abi.Tensor * len(updates))(*(_abi.Tensor(size, *update) for update in updates))
    check(library.tensor_update(byref(group), tensors, len(updates)))


class SavedCheckpoint:
    """Owns an `orlop_checkpoint *`: parameters are read from it without an engine."""

    def __init__(self, directory: str) -> None:
        self._handle = c_void_p()
        check(library.checkpoint_open(os.fsencode(directory), byref(self._handle)))

    def read(self, number: int, plane: Plane, first: int, count: int, dtype: DType, destination: int) -> None:
        check(library.checkpoint_read(self._handle, number, plane, first, count, dtype, destination))

    def close(self) -> None:
        library.checkpoint_close(byref(self._handle))


class Import:
    """Owns an `orlop_import *`: a checkpoint being made. Closed before it is complete it leaves nothing."""

    def __init__(self, directory: str, client_json: str, params: list[tuple[str, DType, int]]) -> None:
        descs = (ParamDesc * len(params))()
        for desc, (name, dtype, numel) in zip(descs, params, strict=True):
            desc.struct_size = ctypes.sizeof(ParamDesc)
            desc.name, desc.dtype, desc.numel = name.encode(), dtype, numel
        given = sized(ImportParams)
        given.directory, given.client_json = os.fsencode(directory), client_json.encode()
        given.params, given.param_count = descs, len(params)
        self._handle = c_void_p()
        check(library.import_open(byref(given), byref(self._handle)))

    def write(self, number: int, first: int, count: int, dtype: DType, source: int) -> None:
        check(library.import_write(self._handle, number, first, count, dtype, source))

    def complete(self) -> None:
        check(library.import_complete(self._handle))

    def close(self) -> None:
        library.import_close(byref(self._handle))


Show = Callable[[int, int], None]  # bytes done, bytes in all


def verify_checkpoint(directory: str, show: Show) -> None:
    """Compares every byte with its checksum. Raises CorruptError with the first damage found."""
    with_progress(show, lambda progress: library.checkpoint_verify(os.fsencode(directory), progress, None))


def export_checkpoint(directory: str, target: str, show: Show) -> None:
    """Writes a checkpoint out whole, so that it needs no store."""
    raw, raw_target = os.fsencode(directory), os.fsencode(target)
    with_progress(show, lambda progress: library.checkpoint_export(raw, raw_target, progress, None))


def with_progress(show: Show, call: Callable[[Any], int]) -> None:
    """Runs a call that reports progress; what `show` raises, Ctrl-C too, stops it and is raised again."""
    raised: list[BaseException] = []

    def report(_user: int | None, done: int, total: int) -> int:
        try:
            show(done, total)
        except BaseException as error:  # cannot pass through the library
            raised.append(error)
            return 1
        return 0

    status = call(Progress(report))
    if raised:
        raise raised[0]
    check(status)


def reclaim(nvme_path: str, dry_run: bool) -> int:
    """Bytes won back from what ended runs left, or with `dry_run` that would be."""
    freed = c_uint64()
    check(library.store_reclaim(os.fsencode(nvme_path), RECLAIM_DRY_RUN if dry_run else 0, byref(freed)))
    return freed.value


class NativeEngine:
    """Owns an `orlop_engine *`."""

    def __init__(self, config: str, device_kind: DeviceKind, device_index: int, optimizer: str | None = None) -> None:
        params = sized(EngineParams)
        params.device_kind, params.device_index = device_kind, device_index
        params.config_json = config.encode()
        params.optimizer_json = None if optimizer is None else optimizer.encode()
        self._pid = os.getpid()
        self._is_forked = False
        self._handle = c_void_p()
        check(library.engine_open(byref(params), byref(self._handle)))
        _engines.add(self)

    @property
    def is_open(self) -> bool:
        return self._handle.value is not None

    def check_usable(self) -> None:
        """Raises OutOfOrderError after close, ForkedError in a forked child."""
        self._open_handle()

    def _open_handle(self) -> c_void_p:
        if self._handle.value is not None:
            return self._handle
        if self._is_forked:
            raise ForkedError(
                f"engine: on process {os.getpid()}: it belongs to process {self._pid}, whose fork this is: "
                "call it there, or initialize one here"
            )
        raise OutOfOrderError("engine: closed: it can train no more; orlop.initialize makes a new one")

    def close(self) -> None:
        """Removes the store and frees the engine's memory."""
        handle, self._handle = self._handle, c_void_p()
        if handle.value is not None:
            check(library.engine_close(byref(handle)))

    def cancel(self) -> None:
        """Stops the step under way, and returns when it has stopped. The engine can then only be closed."""
        handle = self._open_handle()
        library.engine_cancel(handle)
        while library.step_wait(handle, POLL_MS, None) == Status.TIMEOUT:
            pass

    def forget(self) -> None:
        """Lets go of the handle: in a forked child the engine is the parent's."""
        self._handle, self._is_forked = c_void_p(), True

    # ---- Parameters ----

    def register(self, name: str, dtype: DType, numel: int, group: int, module: int, flags: int) -> int:
        desc = sized(ParamDesc)
        desc.name, desc.dtype, desc.numel = name.encode(), dtype, numel
        desc.group, desc.module, desc.flags = group, module, flags
        number = c_uint32()
        check(library.param_register(self._open_handle(), byref(desc), byref(number)))
        return number.value

    def commit(self) -> None:
        handle = self._open_handle()
        self._run_cancellable(lambda: check(library.engine_commit(handle)))

    def plan(self) -> dict[str, Any]:
        """What commit would take of every tier."""
        handle = self._open_handle()
        return _read_json(lambda buffer, capacity, needed: library.engine_plan(handle, buffer, capacity, needed))

    def address(self, number: int) -> int:
        address = c_void_p()
        check(library.param_address(self._open_handle(), number, byref(address)))
        assert address.value is not None
        return address.value

    def place(self, number: int) -> tuple[int, int]:
        """The unit of a parameter, and the element in it that it begins at."""
        unit, first = c_uint32(), c_uint64()
        check(library.param_unit(self._open_handle(), number, byref(unit), byref(first)))
        return unit.value, first.value

    def unit(self, number: int) -> Unit:
        unit: Unit = sized(Unit)
        check(library.unit_get(self._open_handle(), number, byref(unit)))
        return unit

    def make_room(self, unit: int) -> list[int]:
        """Units whose memory the caller is to free before it takes memory for this one."""
        handle, evicted, count = self._open_handle(), (c_uint32 * _EVICTED_AT_ONCE)(), c_uint32(_EVICTED_AT_ONCE)
        units: list[int] = []
        while count.value == _EVICTED_AT_ONCE:
            check(library.unit_room(handle, unit, evicted, _EVICTED_AT_ONCE, byref(count)))
            units += evicted[: count.value]
        return units

    def unshard(self, unit: int, use: Use, destination: int, stream: int) -> None:
        """Begins a use of a unit of the store: fills memory of the caller's, unless the unit has stayed there."""
        check(library.unit_unshard(self._open_handle(), unit, use, destination, stream, None))

    def reshard(self, unit: int) -> bool:
        """Ends a use; whether the unit stays in its memory."""
        stays = c_int32()
        check(library.unit_reshard(self._open_handle(), unit, byref(stays)))
        return bool(stays.value)

    def give_up(self, unit: int) -> None:
        """Ends a unit's use, or that it was kept: its memory is the caller's again."""
        check(library.unit_reshard(self._open_handle(), unit, None))

    def read(self, number: int, plane: Plane, count: int, dtype: DType, destination: int) -> None:
        check(library.param_read(self._open_handle(), number, plane, 0, count, dtype, destination))

    def write(self, number: int, plane: Plane, first: int, count: int, dtype: DType, source: int) -> None:
        check(library.param_write(self._open_handle(), number, plane, first, count, dtype, source))

    # ---- Optimizer groups ----

    def group(self, number: int) -> GroupParams:
        params: GroupParams = sized(GroupParams)
        check(library.group_get(self._open_handle(), number, byref(params)))
        return params

    def set_group(self, number: int, params: GroupParams) -> None:
        check(library.group_set(self._open_handle(), number, byref(params)))

    # ---- Gradients and steps ----

    def grad_ready(self, number: int, address: int, dtype: int, stream: int) -> int:
        """Hands a gradient over; the ticket, 0 if its memory may be reused already."""
        ticket = c_uint64()
        check(library.grad_ready(self._open_handle(), number, address, dtype, stream, byref(ticket)))
        return ticket.value

    def is_done(self, ticket: int) -> bool:
        status = library.ticket_wait(self._open_handle(), ticket, 0)
        if status == Status.TIMEOUT:
            return False
        check(status)
        return True

    def set_boundary(self, boundary: Boundary) -> None:
        check(library.boundary_set(self._open_handle(), boundary))

    def backward_end(self) -> bool:
        """Ends a micro-batch; whether an update is due."""
        is_boundary = c_int32()
        check(library.backward_end(self._open_handle(), byref(is_boundary)))
        return bool(is_boundary.value)

    def discard_gradients(self) -> None:
        check(library.grad_discard(self._open_handle()))

    def loss_scale(self) -> float:
        """What losses are to be multiplied with until the next step."""
        scale = c_double()
        check(library.loss_scale(self._open_handle(), byref(scale)))
        return scale.value

    def step_begin(self) -> None:
        check(library.step_begin(self._open_handle(), None))

    def step_wait(self) -> StepReport:
        """Waits for the parameters to be final, awake to Ctrl-C."""
        report: StepReport = sized(StepReport)
        self._wait(lambda handle: library.step_wait(handle, POLL_MS, byref(report)))
        return report

    def drain(self) -> None:
        self._wait(lambda handle: library.drain(handle, POLL_MS))

    # ---- Checkpoints ----

    def save_begin(
        self,
        directory: str,
        client_json: str,
        replaced: list[str],
        latest_file: str | None,
        bytes_per_second: int,
        flags: int,
    ) -> None:
        params = sized(SaveParams)
        params.flags = flags
        params.directory, params.client_json = os.fsencode(directory), client_json.encode()
        names = [os.fsencode(name) for name in replaced]
        params.replaced_directories = (c_char_p * len(names))(*names)
        params.replaced_count, params.bytes_per_second = len(names), bytes_per_second
        params.latest_file = None if latest_file is None else os.fsencode(latest_file)
        check(library.checkpoint_save_begin(self._open_handle(), byref(params)))

    def load_begin(self, directory: str, flags: int) -> None:
        params = sized(LoadParams)
        params.directory, params.flags = os.fsencode(directory), flags
        check(library.checkpoint_load_begin(self._open_handle(), byref(params)))

    def checkpoint_wait(self, wait: bool) -> bool:
        """Whether what was begun has ended well; with `wait` not before it has ended."""
        if wait:
            self._wait(lambda handle: library.checkpoint_wait(handle, POLL_MS))
            return True
        status = library.checkpoint_wait(self._open_handle(), 0)
        if status == Status.TIMEOUT:
            return False
        check(status)
        return True

    def cancel_load(self) -> None:
        """Stops the load under way, and returns when it has stopped. The engine can then only be closed."""
        handle = self._open_handle()
        library.engine_cancel(handle)
        while library.checkpoint_wait(handle, POLL_MS) == Status.TIMEOUT:
            pass

    def _run_cancellable(self, call: Callable[[], None]) -> None:
        """Runs a call that has no timeout beside this thread, so that Ctrl-C can cancel it."""
        failed: list[BaseException] = []

        def run() -> None:
            try:
                call()
            except BaseException as error:
                failed.append(error)

        worker = threading.Thread(target=run, name="orlop-call", daemon=True)
        worker.start()
        try:
            while worker.is_alive():
                worker.join(POLL_MS / 1000)
        except KeyboardInterrupt:
            library.engine_cancel(self._open_handle())
            worker.join()
            raise
        if failed:
            raise failed[0]

    def _wait(self, call: Callable[[c_void_p], int]) -> None:
        while (status := call(self._open_handle())) == Status.TIMEOUT:
            raise_if_interrupted()
        check(status)

    # ---- Seeing ----

    def stats(self) -> Stats:
        stats: Stats = sized(Stats)
        check(library.engine_stats(self._open_handle(), byref(stats)))
        return stats

    def describe(self) -> dict[str, Any]:
        handle = self._open_handle()
        return _read_json(lambda buffer, capacity, needed: library.engine_describe(handle, buffer, capacity, needed))

    def digest(self) -> int:
        handle, digest = self._open_handle(), c_uint64()
        self._run_cancellable(lambda: check(library.engine_digest(handle, byref(digest))))
        return digest.value

    def write_trace(self, path: str) -> None:
        check(library.trace_write(self._open_handle(), os.fsencode(path)))


_engines: weakref.WeakSet[NativeEngine] = weakref.WeakSet()


def _forget_all() -> None:
    for engine in list(_engines):
        engine.forget()


os.register_at_fork(after_in_child=_forget_all)
