"""Values of parameters that wait for an engine: in a file without a name, which ends with the process however it ends.

They are written and read past the page cache where the filesystem can do that, in pieces, each with its checksum.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path

from .errors import CorruptError, NoPermissionError, NoSpaceError, NotFoundError, TransferError, UnsupportedError

PIECE_BYTES = 16 << 20  # read and written at once

_PAGE = 4096  # what direct transfers are multiples of
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # flags of fallocate
_libc = ctypes.CDLL(None)


class Scratch:
    """The file, in a folder on the drive that is to have the parameters.

    limit: the most bytes that it may hold, which orlop.memory.nvme says; None: what the drive has room for.
    """

    def __init__(self, folder: str | os.PathLike[str], limit: int | None = None) -> None:
        self.folder = Path(folder)
        self._file, self._is_direct = _opened(self.folder)
        self._end = 0
        self._held = 0  # bytes of places that something refers to
        self._limit = limit
        weakref.finalize(self, os.close, self._file).atexit = False

    def keep(self, values: memoryview) -> Place:
        """Writes values down; their room is given back when nothing refers to the place any more.

        Raises NoSpaceError, before anything is written, where the budget or the drive has no room for them.
        """
        self._check_room(_whole_pages(values.nbytes))
        place = Place(self, self._end, values.nbytes)
        self._end += _whole_pages(values.nbytes)
        self._held += _whole_pages(values.nbytes)
        buffer = new_buffer(values.nbytes)
        for begin in range(0, values.nbytes, PIECE_BYTES):
            piece = values[begin : begin + PIECE_BYTES]
            buffer[: piece.nbytes] = piece
            self._write(buffer[: _whole_pages(piece.nbytes)], place.first + begin)
            place.sums.append(zlib.crc32(piece))
        return place

    def _check_room(self, count: int) -> None:
        if self._limit is not None and self._held + count > self._limit:
            raise NoSpaceError(
                f"zero.Init: on the budget orlop.memory.nvme ({self._limit} bytes): {self.folder} has {self._held} "
                f"bytes of parameters, and {count} more are {self._held + count - self._limit} bytes too many; raise "
                "the budget, or build the model in the type that it is to have (torch.set_default_dtype)"
            )
        free = shutil.disk_usage(self.folder).free
        if count > free:
            raise NoSpaceError(
                f"zero.Init: on {self.folder} ({free} bytes are free): {count} bytes more of parameters are "
                f"{count - free} too many; free some or choose another nvme_path"
            )

    def _write(self, left: memoryview, offset: int) -> None:
        count, end = left.nbytes, offset + left.nbytes
        while left:
            try:
                left = left[os.pwrite(self._file, left, end - left.nbytes) :]
            except OSError as error:
                self._refuse(error, count)
        if not self._is_direct:
            os.fdatasync(self._file)
            os.posix_fadvise(self._file, offset, count, os.POSIX_FADV_DONTNEED)

    def _refuse(self, error: OSError, count: int) -> None:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            free = shutil.disk_usage(self.folder).free
            raise NoSpaceError(
                f"zero.Init: on {self.folder} ({free} bytes are free): no room for {count} bytes more of parameters: "
                f"{error.strerror}; free some or choose another nvme_path"
            ) from None
        raise TransferError(f"zero.Init: on {self.folder} ({count} bytes): {error.strerror}") from None

    def read(self, into: memoryview, offset: int) -> None:
        read_fully(self._file, into, offset)

    def give_back(self, first: int, count: int) -> None:
        """Makes a hole of a place that nothing refers to."""
        self._held -= _whole_pages(count)
        if hasattr(_libc, "fallocate"):
            length = ctypes.c_int64(_whole_pages(count))
            _libc.fallocate(self._file, _KEEP_SIZE | _PUNCH_HOLE, ctypes.c_int64(first), length)


class Place:
    """Where in the file values are. It never changes: other values get another place."""

    def __init__(self, scratch: Scratch, first: int, nbytes: int) -> None:
        self.first, self.nbytes = first, nbytes
        self.bytes_on_drive = _whole_pages(nbytes)
        self.sums: list[int] = []
        self._scratch = scratch
        weakref.finalize(self, scratch.give_back, first, nbytes).atexit = False

    def pieces(self) -> Iterator[memoryview]:
        """The values piece by piece; each is valid until the next is asked for."""
        buffer = new_buffer(self.nbytes)
        for number, expected in enumerate(self.sums):
            begin = number * PIECE_BYTES
            piece = buffer[: min(PIECE_BYTES, self.nbytes - begin)]
            self._scratch.read(buffer[: _whole_pages(piece.nbytes)], self.first + begin)
            if (found := zlib.crc32(piece)) != expected:
                raise CorruptError(
                    f"zero.Init: on {self._scratch.folder} (offset {self.first + begin}, {piece.nbytes} bytes): what "
                    f"was read is not what was written: expected sum {expected:08x}, found {found:08x}; the drive or "
                    "the memory is damaged"
                )
            yield piece


def read_fully(file: int, into: memoryview, offset: int) -> int:
    """Fills memory from a place of a file. Returns what is missing because the file ends."""
    while into and (count := os.preadv(file, [into], offset)):
        into, offset = into[count:], offset + count
    return into.nbytes


def new_buffer(nbytes: int) -> memoryview:
    """Memory for a piece of so many bytes, as direct transfers want it."""
    return memoryview(mmap.mmap(-1, _whole_pages(min(nbytes, PIECE_BYTES))))


def _whole_pages(count: int) -> int:
    return -(-count // _PAGE) * _PAGE


def _opened(folder: Path) -> tuple[int, bool]:
    """A file without a name, and whether it is read and written directly."""
    try:
        for flags in (os.O_DIRECT, 0):
            with contextlib.suppress(OSError):
                return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC | flags, 0o600), bool(flags)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix="orlop-")  # a filesystem where each file has a name
        os.unlink(name)
        return descriptor, False
    except FileNotFoundError:
        raise NotFoundError(f"zero.Init: on {folder}: there is no such directory; make it or choose another") from None
    except NotADirectoryError:
        raise UnsupportedError(f"zero.Init: on {folder}: it is no directory; give one on the drive") from None
    except OSError as error:
        raise NoPermissionError(f"zero.Init: on {folder}: {error.strerror}; choose another nvme_path") from None
