"""The C interface (include/orlop/orlop.h) as ctypes tables, and the shared library they belong to.

`tests/python/abi_test.py` holds every struct, function and enumeration here against the header.

The library is opened twice. `PyDLL` keeps the interpreter's lock for the few calls that return at once and take no
lock of the library's. Everything else goes through `CDLL`, which gives the lock up: it may wait for the drive, or for
an engine thread that wants to write a log line into Python.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from ctypes import POINTER, Structure, c_char_p, c_double, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from .errors import LibraryError

VERSION = (0, 1, 0)  # of the header these tables were written for


class EngineParams(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("rank", c_int32),
        ("world_size", c_int32),
        ("device_kind", c_int32),
        ("device_index", c_int32),
        ("reserved", c_uint32),
        ("config_json", c_char_p),
        ("run_id", c_char_p),
        ("optimizer_json", c_char_p),
    ]


class ParamDesc(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("dtype", c_int32),
        ("name", c_char_p),
        ("numel", c_uint64),
        ("group", c_int32),
        ("module", c_int32),
        ("flags", c_uint32),
        ("reserved", c_uint32),
    ]


class Unit(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("dtype", c_int32),
        ("elements", c_uint64),
        ("flags", c_uint32),
        ("param_count", c_uint32),
    ]


class GroupParams(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("decoupled_weight_decay", c_uint32),
        ("lr", c_double),
        ("beta1", c_double),
        ("beta2", c_double),
        ("eps", c_double),
        ("weight_decay", c_double),
        ("bias_correction", c_uint32),
        ("optimizer", c_int32),
        ("lr_decay", c_double),
    ]


class Tensor(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("param_dtype", c_int32),
        ("grad_dtype", c_int32),
        ("state_dtype", c_int32),
        ("numel", c_uint64),
        ("param", c_void_p),
        ("grad", c_void_p),
        ("exp_avg", c_void_p),
        ("exp_avg_sq", c_void_p),
        ("step", c_uint64),
    ]


class StepParams(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("loss_scale", c_double),
    ]


class StepReport(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("skipped", c_uint32),
        ("step", c_uint64),
        ("skipped_steps", c_uint64),
        ("grad_norm", c_double),
        ("clip_factor", c_double),
        ("seconds", c_double),
        ("exposed_io_seconds", c_double),
        ("hidden_io_seconds", c_double),
        ("adam_seconds", c_double),
        ("nvme_read_bytes", c_uint64),
        ("nvme_write_bytes", c_uint64),
        ("loss_scale", c_double),
        ("unit_wait_seconds", c_double),
        ("unit_copy_seconds", c_double),
    ]


class Stats(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("params", c_uint64),
        ("steps", c_uint64),
        ("skipped_steps", c_uint64),
        ("host_budget_bytes", c_uint64),
        ("host_bytes", c_uint64),
        ("model_bytes", c_uint64),
        ("staging_bytes", c_uint64),
        ("nvme_bytes", c_uint64),
        ("nvme_read_bytes", c_uint64),
        ("nvme_write_bytes", c_uint64),
        ("exposed_io_seconds", c_double),
        ("hidden_io_seconds", c_double),
        ("adam_seconds", c_double),
        ("step_seconds", c_double),
        ("live_limit_bytes", c_uint64),
        ("live_bytes", c_uint64),
        ("unit_hits", c_uint64),
        ("unit_fetches", c_uint64),
        ("unexpected_uses", c_uint64),
        ("loss_scale_good_steps", c_uint64),
        ("loss_scale_overflows_left", c_uint64),
        ("unit_wait_seconds", c_double),
        ("unit_copy_seconds", c_double),
        ("activation_bytes", c_uint64),
    ]


class SaveParams(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("directory", c_char_p),
        ("client_json", c_char_p),
        ("replaced_directories", POINTER(c_char_p)),
        ("replaced_count", c_uint64),
        ("latest_file", c_char_p),
        ("bytes_per_second", c_uint64),
    ]


class LoadParams(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("flags", c_uint32),
        ("directory", c_char_p),
    ]


class ImportParams(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("directory", c_char_p),
        ("client_json", c_char_p),
        ("params", POINTER(ParamDesc)),
        ("param_count", c_uint64),
    ]


class HostPoolParams(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("device_kind", c_int32),
        ("device_index", c_int32),
        ("flags", c_uint32),
        ("limit_bytes", c_uint64),
    ]


class HostPoolUse(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("reserved", c_uint32),
        ("limit_bytes", c_uint64),
        ("host_bytes", c_uint64),
        ("used_bytes", c_uint64),
        ("peak_bytes", c_uint64),
    ]


class FileQueueParams(Structure):
    _fields_ = [
        ("struct_size", c_uint32),
        ("depth", c_uint32),
        ("block_bytes", c_uint64),
        ("queue", c_char_p),
        ("thread_count", c_uint32),
        ("reserved", c_uint32),
    ]


STRUCTS: dict[str, type[Structure]] = {
    "orlop_engine_params": EngineParams,
    "orlop_param_desc": ParamDesc,
    "orlop_unit": Unit,
    "orlop_group_params": GroupParams,
    "orlop_tensor": Tensor,
    "orlop_step_params": StepParams,
    "orlop_step_report": StepReport,
    "orlop_save_params": SaveParams,
    "orlop_load_params": LoadParams,
    "orlop_import_params": ImportParams,
    "orlop_stats": Stats,
    "orlop_host_pool_params": HostPoolParams,
    "orlop_host_pool_use": HostPoolUse,
    "orlop_file_queue_params": FileQueueParams,
}

Progress = ctypes.CFUNCTYPE(c_int32, c_void_p, c_uint64, c_uint64)
LogCallback = ctypes.CFUNCTYPE(None, c_void_p, c_int32, c_char_p)

_status = c_int32
_engine = c_void_p
_checkpoint = c_void_p
_import = c_void_p
_host_pool = c_void_p
_file_queue = c_void_p
_ticket = c_uint64

# name: (what it returns, arguments, whether it returns at once and takes no lock)
FUNCTIONS: dict[str, tuple[Any, list[Any], bool]] = {
    "orlop_version": (c_uint32, [], True),
    "orlop_build_info": (c_char_p, [], False),
    "orlop_last_error": (c_char_p, [], True),
    "orlop_status_name": (c_char_p, [_status], True),
    "orlop_log_set": (_status, [LogCallback, c_void_p, c_int32], False),
    "orlop_config_resolve": (_status, [c_char_p, c_int32, c_void_p, c_size_t, POINTER(c_size_t)], False),
    "orlop_engine_open": (_status, [POINTER(EngineParams), POINTER(_engine)], False),
    "orlop_engine_close": (_status, [POINTER(_engine)], False),
    "orlop_engine_cancel": (None, [_engine], True),
    "orlop_param_register": (_status, [_engine, POINTER(ParamDesc), POINTER(c_uint32)], False),
    "orlop_engine_commit": (_status, [_engine], False),
    "orlop_engine_plan": (_status, [_engine, c_void_p, c_size_t, POINTER(c_size_t)], False),
    "orlop_param_address": (_status, [_engine, c_uint32, POINTER(c_void_p)], False),
    "orlop_param_read": (_status, [_engine, c_uint32, c_int32, c_uint64, c_uint64, c_int32, c_void_p], False),
    "orlop_param_write": (_status, [_engine, c_uint32, c_int32, c_uint64, c_uint64, c_int32, c_void_p], False),
    "orlop_unit_get": (_status, [_engine, c_uint32, POINTER(Unit)], False),
    "orlop_param_unit": (_status, [_engine, c_uint32, POINTER(c_uint32), POINTER(c_uint64)], False),
    "orlop_unit_room": (_status, [_engine, c_uint32, POINTER(c_uint32), c_uint32, POINTER(c_uint32)], False),
    "orlop_unit_unshard": (_status, [_engine, c_uint32, c_int32, c_void_p, c_void_p, POINTER(_ticket)], False),
    "orlop_unit_reshard": (_status, [_engine, c_uint32, POINTER(c_int32)], False),
    "orlop_group_get": (_status, [_engine, c_int32, POINTER(GroupParams)], False),
    "orlop_group_set": (_status, [_engine, c_int32, POINTER(GroupParams)], False),
    "orlop_tensor_update": (_status, [POINTER(GroupParams), POINTER(Tensor), c_uint64], False),
    "orlop_grad_ready": (_status, [_engine, c_uint32, c_void_p, c_int32, c_void_p, POINTER(_ticket)], False),
    "orlop_ticket_wait": (_status, [_engine, _ticket, c_int32], False),
    "orlop_boundary_set": (_status, [_engine, c_int32], False),
    "orlop_backward_end": (_status, [_engine, POINTER(c_int32)], False),
    "orlop_grad_discard": (_status, [_engine], False),
    "orlop_loss_scale": (_status, [_engine, POINTER(c_double)], False),
    "orlop_step_begin": (_status, [_engine, POINTER(StepParams)], False),
    "orlop_step_wait": (_status, [_engine, c_int32, POINTER(StepReport)], False),
    "orlop_step": (_status, [_engine, POINTER(StepReport)], False),
    "orlop_drain": (_status, [_engine, c_int32], False),
    "orlop_checkpoint_save_begin": (_status, [_engine, POINTER(SaveParams)], False),
    "orlop_checkpoint_load_begin": (_status, [_engine, POINTER(LoadParams)], False),
    "orlop_checkpoint_wait": (_status, [_engine, c_int32], False),
    "orlop_checkpoint_describe": (_status, [c_char_p, c_void_p, c_size_t, POINTER(c_size_t)], False),
    "orlop_checkpoint_verify": (_status, [c_char_p, Progress, c_void_p], False),
    "orlop_checkpoint_export": (_status, [c_char_p, c_char_p, Progress, c_void_p], False),
    "orlop_checkpoint_open": (_status, [c_char_p, POINTER(_checkpoint)], False),
    "orlop_checkpoint_close": (_status, [POINTER(_checkpoint)], False),
    "orlop_checkpoint_read": (
        _status,
        [_checkpoint, c_uint32, c_int32, c_uint64, c_uint64, c_int32, c_void_p],
        False,
    ),
    "orlop_import_open": (_status, [POINTER(ImportParams), POINTER(_import)], False),
    "orlop_import_write": (_status, [_import, c_uint32, c_uint64, c_uint64, c_int32, c_void_p], False),
    "orlop_import_complete": (_status, [_import], False),
    "orlop_import_close": (_status, [POINTER(_import)], False),
    "orlop_store_reclaim": (_status, [c_char_p, c_uint32, POINTER(c_uint64)], False),
    "orlop_host_pool_open": (_status, [POINTER(HostPoolParams), POINTER(_host_pool)], False),
    "orlop_host_pool_take": (_status, [_host_pool, c_uint64, POINTER(c_void_p)], False),
    "orlop_host_pool_give_back": (_status, [_host_pool, c_void_p], False),
    "orlop_host_pool_look": (_status, [_host_pool, POINTER(HostPoolUse)], False),
    "orlop_host_pool_close": (_status, [POINTER(_host_pool)], False),
    "orlop_file_queue_open": (_status, [POINTER(FileQueueParams), POINTER(_file_queue)], False),
    "orlop_file_queue_read": (
        _status,
        [_file_queue, c_char_p, c_uint64, c_uint64, c_void_p, POINTER(_ticket)],
        False,
    ),
    "orlop_file_queue_write": (
        _status,
        [_file_queue, c_char_p, c_uint64, c_uint64, c_void_p, POINTER(_ticket)],
        False,
    ),
    "orlop_file_queue_wait": (_status, [_file_queue, _ticket, c_int32], False),
    "orlop_file_queue_close": (_status, [POINTER(_file_queue)], False),
    "orlop_engine_stats": (_status, [_engine, POINTER(Stats)], False),
    "orlop_engine_describe": (_status, [_engine, c_void_p, c_size_t, POINTER(c_size_t)], False),
    "orlop_engine_digest": (_status, [_engine, POINTER(c_uint64)], False),
    "orlop_trace_write": (_status, [_engine, c_char_p], False),
}


def sized(struct: type[Structure]) -> Any:
    """A zeroed struct with its size filled in."""
    value = struct()
    value.struct_size = ctypes.sizeof(struct)
    return value


class Library:
    """The functions of one loaded liborlop, as attributes without their `orlop_` prefix."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            waiting, quick = ctypes.CDLL(path), ctypes.PyDLL(path)
        except OSError as error:
            raise LibraryError(f"liborlop: on {path}: {error}") from None
        _check_version(waiting, path)
        for name, (result, arguments, is_quick) in FUNCTIONS.items():
            function = getattr(quick if is_quick else waiting, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name.removeprefix("orlop_"), function)

    def __getattr__(self, name: str) -> Any:  # for type checkers: the functions are set in __init__
        raise AttributeError(name)


def _check_version(library: ctypes.CDLL, path: str) -> None:
    try:
        library.orlop_version.restype = c_uint32
        number = library.orlop_version()
    except AttributeError:
        raise LibraryError(f"liborlop: on {path}: this is not Orlop's library (it has no orlop_version)") from None
    found = (number >> 16, number >> 8 & 0xFF, number & 0xFF)
    # Before 1.0 a minor version may change the interface; afterwards only a major one may, and newer ones only add.
    compatible = found[:2] == VERSION[:2] if VERSION[0] == 0 else found[0] == VERSION[0] and found >= VERSION
    if not compatible:
        raise LibraryError(
            f"liborlop: on {path} (version {_dotted(found)}): this Python package needs {_dotted(VERSION)}; "
            "install both from the same release, or set ORLOP_LIBRARY to the library that belongs to it"
        )


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(map(str, version))


def find_library() -> str:
    """Where the library is: ORLOP_LIBRARY, else the wheel's, beside the package, a checkout's build/, the system's."""
    named = os.environ.get("ORLOP_LIBRARY")
    if named:
        if not Path(named).is_file():
            raise LibraryError(f"liborlop: on {named}: ORLOP_LIBRARY names it, but there is no such file")
        return named
    package = Path(__file__).resolve().parent
    in_wheel = package.parent / ".orlop.mesonpy.libs" / "liborlop.so"
    candidates = [in_wheel, package / "liborlop.so", package.parents[1] / "build" / "src" / "capi" / "liborlop.so"]
    for candidate in candidates:
        if candidate.is_file():
            return str(candidate)
    installed = ctypes.util.find_library("orlop")
    if installed:
        return installed
    looked = ", ".join(map(str, candidates))
    raise LibraryError(
        f"liborlop: not found (looked at {looked} and the system's library path): build it with ./dev build, "
        "or set ORLOP_LIBRARY to its path"
    )


library = Library(find_library())
