"""`orlop export`: a checkpoint's weights as safetensors, or all of it so that it needs no store."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from .. import _native
from .._checkpoint import MANIFEST, Saved, find
from .._dtypes import STORED
from .._enums import Plane
from .._safetensors import DTYPES, INDEX, SINGLE
from .._text import size
from ..errors import InvalidArgumentError, NoSpaceError, NotFoundError, UnsupportedError
from ._progress import progress

_PIECE = 1 << 22  # elements at a time
_FILE_BYTES = 5 * 1000**3  # of one file, as the Hugging Face libraries cut them


def add_to(commands: Any) -> None:
    """Adds the subcommand."""
    export = commands.add_parser(
        "export",
        help="write a checkpoint's weights as safetensors, or all of it without its store",
        description="Writes model.safetensors (several files and an index when it is large) as Hugging Face's "
        "from_pretrained reads it; or, with --full, a checkpoint that needs no store and can be moved. Everything read "
        "is compared with its checksum. Takes less than 1 GiB of memory however large the model.",
    )
    export.add_argument("checkpoint", type=Path, help="a checkpoint, or a directory whose latest one is meant")
    export.add_argument("target", type=Path, help="a new or empty directory")
    export.add_argument("--full", action="store_true", help="masters, moments and all: to be loaded by load_checkpoint")
    export.add_argument("--dtype", choices=DTYPES, help="of the weights; fp32 are the masters (as they were trained)")
    export.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """`orlop export`."""
    checkpoint = _checkpoint_at(chosen.checkpoint)
    if chosen.full:
        if chosen.dtype is not None:
            raise InvalidArgumentError(
                "export: on --dtype: with --full everything stays as it is; leave one of them out"
            )
        with progress("export") as show:
            _native.export_checkpoint(str(checkpoint), str(chosen.target), show)
        print(f"{chosen.target}: a checkpoint that stands alone")
        return 0
    _check_target(chosen.target)
    files = Weights(checkpoint, chosen.dtype).write(chosen.target)
    count = f"{len(files)} file{'s' if len(files) > 1 else ''}"
    print(f"{chosen.target}: {count}, {size(sum(file.stat().st_size for file in files))}")
    return 0


def _checkpoint_at(path: Path) -> Path:
    if (path / MANIFEST).is_file():
        return path
    found = find(path, None) if (path / "latest").is_file() else None
    if found is None:
        raise NotFoundError(f"export: on {path}: it is no checkpoint of Orlop, and has no latest one")
    return found


def _check_target(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidArgumentError(f"export: on {target}: it is not empty; name a new directory")


@dataclass
class Entry:
    """One tensor of the files: a parameter, streamed, or a buffer of the module, at hand."""

    name: str
    dtype: str  # as safetensors names it
    shape: list[int]
    nbytes: int
    write: Callable[[BinaryIO, Callable[[int], None]], None]  # to a file, telling how many bytes


class Weights:
    """The parameters of a checkpoint, and the module's buffers, as safetensors files, streamed."""

    def __init__(self, checkpoint: Path, dtype: str | None) -> None:
        about = _native.describe_checkpoint(str(checkpoint))
        known = Saved(checkpoint).values if "python" in about["client"] else {"shapes": {}, "buffers": {}}
        self._saved = _native.SavedCheckpoint(str(checkpoint))
        self._entries = [
            self._parameter(
                number, param, dtype or param["dtype"], known["shapes"].get(param["name"], [param["numel"]])
            )
            for number, param in enumerate(about["params"])
        ]
        self._entries += [_buffer(name, tensor) for name, tensor in known["buffers"].items()]

    def _parameter(self, number: int, param: dict[str, Any], wanted: str | None, shape: list[int]) -> Entry:
        dtype = wanted or param["dtype"]
        code, native_type, width = DTYPES[dtype]
        plane = Plane.MASTER if dtype == "fp32" and param["trainable"] else Plane.PARAM

        def write(file: BinaryIO, note: Callable[[int], None]) -> None:
            buffer = ctypes.create_string_buffer(min(_PIECE, param["numel"]) * width)
            for first in range(0, param["numel"], _PIECE):
                count = min(_PIECE, param["numel"] - first)
                self._saved.read(number, plane, first, count, native_type, ctypes.addressof(buffer))
                file.write(memoryview(buffer)[: count * width])
                note(count * width)

        return Entry(param["name"], code, shape, param["numel"] * width, write)

    def write(self, target: Path) -> list[Path]:
        """Writes everything, or leaves nothing. Returns the files of weights."""
        target.mkdir(parents=True, exist_ok=True)
        try:
            total = sum(entry.nbytes for entry in self._entries)
            free = shutil.disk_usage(target).free
            if free < total:
                raise NoSpaceError(f"export: on {target}: {total} bytes are needed, {total - free} too few are free")
            with progress("export") as show:
                return self._write_files(target, total, show)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        finally:
            self._saved.close()

    def _write_files(self, target: Path, total: int, show: Callable[[int, int], None]) -> list[Path]:
        groups = self._cut_into_files()
        done = 0
        files: list[Path] = []
        index: dict[str, str] = {}

        def note(count: int) -> None:
            nonlocal done
            done += count
            show(done, total)

        for number, group in enumerate(groups):
            name = SINGLE if len(groups) == 1 else f"model-{number + 1:05d}-of-{len(groups):05d}.safetensors"
            files.append(target / name)
            index |= {entry.name: name for entry in group}
            with files[-1].open("wb") as file:
                file.write(_header(group))
                for entry in group:
                    entry.write(file, note)
                file.flush()
                os.fsync(file.fileno())
        if len(groups) > 1:
            content = {"metadata": {"total_size": total}, "weight_map": index}
            (target / INDEX).write_text(json.dumps(content, indent=2))
        return files

    def _cut_into_files(self) -> list[list[Entry]]:
        groups: list[list[Entry]] = [[]]
        filled = 0
        for entry in self._entries:
            if groups[-1] and filled + entry.nbytes > _FILE_BYTES:
                groups.append([])
                filled = 0
            groups[-1].append(entry)
            filled += entry.nbytes
        return groups


_CODES = {dtype: code for code, dtype in STORED.items()}  # what buffers may be


def _buffer(name: str, tensor: Tensor) -> Entry:
    if tensor.dtype not in _CODES:
        raise UnsupportedError(f"export: on buffer {name} ({tensor.dtype}): safetensors has no such type")
    held = tensor.contiguous()
    content = ctypes.string_at(held.data_ptr(), held.nbytes)

    def write(file: BinaryIO, note: Callable[[int], None]) -> None:
        file.write(content)
        note(len(content))

    return Entry(name, _CODES[tensor.dtype], list(tensor.shape), len(content), write)


def _header(group: list[Entry]) -> bytes:
    """A safetensors file's beginning: the length of its JSON, and that, padded to 8 bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for entry in group:
        header[entry.name] = {
            "dtype": entry.dtype,
            "shape": entry.shape,
            "data_offsets": [offset, offset + entry.nbytes],
        }
        offset += entry.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
