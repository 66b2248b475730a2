"""Orlop trains models that do not fit: states, gradients and parameters live where there is room.

import orlop
engine, optimizer, _, _ = orlop.initialize(model=model, config="ds_config.json")
for batch in data:
    loss = engine(**batch).loss
    engine.backward(loss)
    engine.step()
engine.close()
"""

from __future__ import annotations

import atexit as _atexit

from . import _log, checkpointing, lr_schedules, optim, zero
from ._abi import VERSION as _VERSION
from ._checkpoint import client_state
from ._initialize import initialize
from ._native import build_info
from .config import Config
from .engine import Engine, close_all
from .errors import (
    BusyError,
    CancelledError,
    ConfigError,
    CorruptError,
    DeviceError,
    ForkedError,
    InternalError,
    InvalidArgumentError,
    LibraryError,
    NoMemoryError,
    NoPermissionError,
    NoSpaceError,
    NotFoundError,
    OrlopError,
    OutOfOrderError,
    TransferError,
    UnsupportedError,
    WaitTimeoutError,
)
from .optimizer import Optimizer
from .report import Stats, StepReport

__version__ = ".".join(map(str, _VERSION))

__all__ = [
    "BusyError",
    "CancelledError",
    "Config",
    "ConfigError",
    "CorruptError",
    "DeviceError",
    "Engine",
    "ForkedError",
    "InternalError",
    "InvalidArgumentError",
    "LibraryError",
    "NoMemoryError",
    "NoPermissionError",
    "NoSpaceError",
    "NotFoundError",
    "Optimizer",
    "OrlopError",
    "OutOfOrderError",
    "Stats",
    "StepReport",
    "TransferError",
    "UnsupportedError",
    "WaitTimeoutError",
    "build_info",
    "checkpointing",
    "client_state",
    "initialize",
    "lr_schedules",
    "optim",
    "zero",
]

_log.follow_logger()
_atexit.register(_log.silence)  # last: functions registered later run earlier
_atexit.register(close_all)
