"""Exceptions: one class for each status of the library, all of them `OrlopError`.

Where Python has a class for the same thing (ValueError, OSError, ...) ours is that, too, so that both
`except orlop.NoSpaceError` and `except OSError` catch a full disk.
"""

from __future__ import annotations

import errno

from ._enums import Status


class OrlopError(Exception):
    """What went wrong, in one sentence: what, on what (numbers), why; often what to do instead."""

    status: Status = Status.INTERNAL


class InvalidArgumentError(OrlopError, ValueError):
    """A call's argument is wrong."""

    status = Status.INVALID_ARGUMENT


class ConfigError(OrlopError, ValueError):
    """A configuration key is unknown, of the wrong type, or contradicts another."""

    status = Status.INVALID_CONFIG


class OutOfOrderError(OrlopError, RuntimeError):
    """A call came before or after its time."""

    status = Status.OUT_OF_ORDER


class NotFoundError(OrlopError, FileNotFoundError):
    """A path, parameter or device does not exist."""

    status = Status.NOT_FOUND


class NoPermissionError(OrlopError, PermissionError):
    """The operating system refused access."""

    status = Status.NO_PERMISSION


class NoSpaceError(OrlopError, OSError):
    """The disk is full or too small."""

    status = Status.NO_SPACE


class NoMemoryError(OrlopError, MemoryError):
    """The host or device budget is too small."""

    status = Status.NO_MEMORY


class TransferError(OrlopError, OSError):
    """A transfer between memory and the store failed."""

    status = Status.IO_ERROR


class CorruptError(OrlopError):
    """What was read from the store is not what was written."""

    status = Status.CORRUPT


class BusyError(OrlopError, RuntimeError):
    """Another process uses the run."""

    status = Status.BUSY


class UnsupportedError(OrlopError, NotImplementedError):
    """This version, build or machine cannot do it."""

    status = Status.UNSUPPORTED


class WaitTimeoutError(OrlopError, TimeoutError):
    """Not finished in the time given; ask again."""

    status = Status.TIMEOUT


class CancelledError(OrlopError):
    """The engine was told to stop."""

    status = Status.CANCELLED


class ForkedError(OrlopError, RuntimeError):
    """The engine belongs to the parent of this process."""

    status = Status.FORKED


class DeviceError(OrlopError, RuntimeError):
    """The accelerator's runtime reported an error."""

    status = Status.DEVICE_ERROR


class InternalError(OrlopError):
    """A bug of ours; please report the sentence."""

    status = Status.INTERNAL


class LibraryError(OrlopError, ImportError):
    """The shared library is missing or of another version."""

    status = Status.NOT_FOUND


_CLASSES: dict[int, type[OrlopError]] = {
    cls.status: cls for cls in OrlopError.__subclasses__() if cls is not LibraryError
}

_ERRNO = {
    Status.NOT_FOUND: errno.ENOENT,
    Status.NO_PERMISSION: errno.EACCES,
    Status.NO_SPACE: errno.ENOSPC,
    Status.IO_ERROR: errno.EIO,
}


def error_of(status: int, sentence: str) -> OrlopError:
    """The exception for a status the library returned, carrying its sentence."""
    error = _CLASSES.get(status, InternalError)(sentence)
    if isinstance(error, OSError):
        error.errno = _ERRNO.get(Status(status))
    return error
