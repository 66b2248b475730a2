"""The enumerations of orlop.h."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """What a call returned: 0, or a negative value."""

    OK = 0
    INVALID_ARGUMENT = -1
    INVALID_CONFIG = -2
    OUT_OF_ORDER = -3
    NOT_FOUND = -4
    NO_PERMISSION = -5
    NO_SPACE = -6
    NO_MEMORY = -7
    IO_ERROR = -8
    CORRUPT = -9
    BUSY = -10
    UNSUPPORTED = -11
    TIMEOUT = -12
    CANCELLED = -13
    FORKED = -14
    DEVICE_ERROR = -15
    INTERNAL = -16


class LogLevel(IntEnum):
    DEBUG = 0
    INFO = 1
    WARNING = 2
    ERROR = 3
    OFF = 4


class DeviceKind(IntEnum):
    HOST = 0
    CUDA = 1


class DType(IntEnum):
    F32 = 0
    BF16 = 1
    F16 = 2


class Plane(IntEnum):
    """One array of a parameter's state."""

    PARAM = 0
    MASTER = 1
    EXP_AVG = 2
    EXP_AVG_SQ = 3
    GRAD = 4


class OptimizerKind(IntEnum):
    """What an engine trains with."""

    ADAM = 0
    ADAGRAD = 1
    LION = 2
    EXTERNAL = 3


class Boundary(IntEnum):
    """Which micro-batch is the last before an update."""

    COUNTED = 0
    NOT_YET = 1
    NOW = 2


class Use(IntEnum):
    """What a unit is used for."""

    FORWARD = 0
    RECOMPUTE = 1
    BACKWARD = 2
    EVALUATION = 3
    ACCESS = 4


PARAM_FROZEN = 1
PARAM_HELD = 2
UNIT_FROZEN = 1
UNIT_STORED = 2
SAVE_TRAINED_ONLY = 1
LOAD_PARAMS_ONLY = 1
LOAD_REGISTERED_ONLY = 2
LOAD_COMMON_ONLY = 4
RECLAIM_DRY_RUN = 1
HOST_POOL_LOCKED = 1
