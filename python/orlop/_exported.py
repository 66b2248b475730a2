"""Writing a model's state as safetensors files: streamed, with a few MiB in memory however large it is."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ._dtypes import STORED
from ._safetensors import INDEX, SINGLE
from ._saved_weights import SavedParameter, SavedWeights
from .errors import NoSpaceError, UnsupportedError

_PIECE = 1 << 22  # elements at a time
_CODES = {dtype: code for code, dtype in STORED.items()}

Note = Callable[[int], None]  # told how many bytes were written


@dataclass
class Entry:
    """One tensor of the files: a parameter, streamed, or a buffer of the module, at hand."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    nbytes: int
    write: Callable[[BinaryIO, Note], None]


def entry_of_parameter(
    weights: SavedWeights, parameter: SavedParameter, dtype: torch.dtype, name: str | None = None
) -> Entry:
    """A parameter in a type, under its own name or another."""

    def write(file: BinaryIO, note: Note) -> None:
        buffer = torch.empty(min(_PIECE, parameter.numel), dtype=dtype)
        for first in range(0, parameter.numel, _PIECE):
            piece = buffer[: min(_PIECE, parameter.numel - first)]
            weights.read_piece(parameter, first, piece)
            note(file.write(_bytes_of(piece)))

    return Entry(name or parameter.name, dtype, parameter.shape, parameter.numel * dtype.itemsize, write)


def entry_of_tensor(name: str, tensor: Tensor) -> Entry:
    """A tensor as it is. Raises UnsupportedError for a type that safetensors files do not have."""
    if tensor.dtype not in _CODES:
        raise UnsupportedError(f"export: on buffer {name} ({tensor.dtype}): safetensors has no such type")
    held = tensor.contiguous()

    def write(file: BinaryIO, note: Note) -> None:
        note(file.write(_bytes_of(held)))

    return Entry(name, held.dtype, tuple(held.shape), held.nbytes, write)


def _bytes_of(tensor: Tensor) -> ctypes.Array[ctypes.c_char]:
    return (ctypes.c_char * tensor.nbytes).from_address(tensor.data_ptr())


def write_files(entries: list[Entry], target: Path, file_bytes: int, show: Callable[[int, int], None]) -> list[Path]:
    """Writes all entries into a directory, or leaves none of the files. Returns the files of weights.

    file_bytes: no file is larger, unless one entry is. Several have an index. show: told bytes done and in all. Raises
    NoSpaceError before anything is written.
    """
    target.mkdir(parents=True, exist_ok=True)
    total = sum(entry.nbytes for entry in entries)
    free = shutil.disk_usage(target).free
    if free < total:
        raise NoSpaceError(f"export: on {target}: {total} bytes are needed, {total - free} too few are free")
    groups = _cut_into_files(entries, file_bytes)
    names = [_name_of(number, len(groups)) for number in range(len(groups))]
    done = 0

    def note(count: int) -> None:
        nonlocal done
        done += count
        show(done, total)

    try:
        for name, group in zip(names, groups, strict=True):
            _write_file(target / name, group, note)
        if len(groups) > 1:
            index = {entry.name: name for name, group in zip(names, groups, strict=True) for entry in group}
            content = {"metadata": {"total_size": total}, "weight_map": index}
            (target / INDEX).write_text(json.dumps(content, indent=2))
    except BaseException:
        for name in (*names, INDEX):
            (target / name).unlink(missing_ok=True)
        raise
    return [target / name for name in names]


def _name_of(number: int, count: int) -> str:
    return SINGLE if count == 1 else f"model-{number + 1:05d}-of-{count:05d}.safetensors"


def _write_file(path: Path, group: list[Entry], note: Note) -> None:
    with path.open("wb") as file:
        file.write(_header(group))
        for entry in group:
            entry.write(file, note)
        file.flush()
        os.fsync(file.fileno())


def _cut_into_files(entries: list[Entry], file_bytes: int) -> list[list[Entry]]:
    groups: list[list[Entry]] = [[]]
    filled = 0
    for entry in entries:
        if groups[-1] and filled + entry.nbytes > file_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(entry)
        filled += entry.nbytes
    return groups


def _header(group: list[Entry]) -> bytes:
    """A safetensors file's beginning: the length of its JSON, and that, padded to 8 bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for entry in group:
        header[entry.name] = {
            "dtype": _CODES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [offset, offset + entry.nbytes],
        }
        offset += entry.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
