"""Safetensors files as the command reads them: one file, or several with an index; only headers are held in memory.

A file is the length of its header (8 bytes), the header (JSON: for each tensor its type, shape and place), and the
bytes of all tensors without a gap. All of that is checked before anything is believed.
"""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any

from ._enums import DType
from ._scratch import read_fully
from .errors import CorruptError, InvalidArgumentError, NoPermissionError, NotFoundError, TransferError

DTYPES = {"fp32": ("F32", DType.F32, 4), "bf16": ("BF16", DType.BF16, 2), "fp16": ("F16", DType.F16, 2)}
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

_MAX_HEADER = 32 << 20  # bytes: 200,000 tensors; parsed it takes some ten times that in memory
_BITS = {  # of an element; other types are known by the file's own arithmetic only
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
}


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor's bytes are."""

    name: str
    dtype: str  # as safetensors names it
    shape: tuple[int, ...]
    file: Path
    begin: int  # of its bytes in the file
    nbytes: int

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


def tensors_at(path: Path) -> list[StoredTensor]:
    """The tensors of a file, an index or a model's directory, in the order in which they lie in the files."""
    if path.is_dir():
        path = _file_in(path)
    if path.name.endswith(".json"):
        return _tensors_of_index(path)
    return _tensors_of_file(path)


def opened(path: Path) -> FileIO:
    """The file, to be read past Python's buffer."""
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        raise NotFoundError(f"import: on {path}: there is no such file") from None
    except PermissionError:
        raise NoPermissionError(f"import: on {path}: it may not be read") from None
    except OSError as error:
        raise TransferError(f"import: on {path}: {error.strerror}") from None


def read_into(file: FileIO, path: Path, into: memoryview, offset: int) -> None:
    """Fills all of `into` from a place of the file, or raises TransferError or CorruptError."""
    try:
        missing = read_fully(file.fileno(), into, offset)
    except OSError as error:
        raise TransferError(f"import: on {path} (offset {offset}): {error.strerror}") from None
    if missing:
        raise CorruptError(f"import: on {path}: it has become shorter while it was read")


def _file_in(directory: Path) -> Path:
    for name in (SINGLE, INDEX):
        if (directory / name).is_file():
            return directory / name
    found = sorted(directory.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidArgumentError(
            f"import: on {directory} ({len(found)} safetensors files, no {INDEX}): which belong together is not said; "
            "name one file, or add the index"
        )
    raise NotFoundError(
        f"import: on {directory}: it has no safetensors file; save the model with save_pretrained, which writes one"
    )


def _tensors_of_index(path: Path) -> list[StoredTensor]:
    with opened(path) as file:
        index = _parsed(_read_json(file, path, path.stat().st_size, 0), path)
    files = index.get("weight_map")
    if not isinstance(files, dict) or not files or not all(_is_file_name(name) for name in files.values()):
        raise CorruptError(f"import: on {path}: its weight_map must say for each tensor which file beside it has it")
    tensors: dict[str, StoredTensor] = {}
    for name in sorted(set(files.values())):
        if not (path.parent / name).is_file():
            count = sum(file == name for file in files.values())
            raise NotFoundError(
                f"import: on {path}: file {name}, which has {count} tensors of it, is missing; download it again"
            )
        _add(tensors, _tensors_of_file(path.parent / name))
    for name, file_name in files.items():
        if name not in tensors or tensors[name].file.name != file_name:
            raise CorruptError(f"import: on {path} (tensor {name}): {file_name} does not have it; download both again")
    return list(tensors.values())


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and value == Path(value).name and value not in ("", "..")


def _add(tensors: dict[str, StoredTensor], more: Iterable[StoredTensor]) -> None:
    for tensor in more:
        if tensor.name in tensors:
            raise CorruptError(
                f"import: on {tensor.file} (tensor {tensor.name}): {tensors[tensor.name].file.name} has it, too; "
                "remove one of the files, or name the right one"
            )
        tensors[tensor.name] = tensor


def _read_json(file: FileIO, path: Path, length: int, offset: int) -> bytes:
    if length > _MAX_HEADER:
        raise CorruptError(
            f"import: on {path} ({length} bytes of JSON): more than {_MAX_HEADER}, which no header needs; is it a "
            "safetensors file?"
        )
    content = bytearray(length)
    read_into(file, path, memoryview(content), offset)
    return bytes(content)


def _parsed(content: bytes, path: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
            raise CorruptError(f"import: on {path} (tensor {twice}): its header names it twice; save the file again")
        return found

    try:
        value = json.loads(content, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"import: on {path}: its header is no JSON ({error}); download it again") from None
    if not isinstance(value, dict):
        raise CorruptError(f"import: on {path}: its header is no JSON object; is it a safetensors file?")
    return value


def _tensors_of_file(path: Path) -> list[StoredTensor]:
    with opened(path) as file:
        size = path.stat().st_size
        if size < 8:
            raise CorruptError(f"import: on {path} ({size} bytes): too short for a safetensors file; download it again")
        prefix = bytearray(8)
        read_into(file, path, memoryview(prefix), 0)
        (length,) = struct.unpack("<Q", prefix)
        if length <= _MAX_HEADER and 8 + length > size:
            raise CorruptError(
                f"import: on {path} ({size} bytes): it was truncated within its header of {length}; download it again"
            )
        header = _parsed(_read_json(file, path, length, len(prefix)), path)
    header.pop("__metadata__", None)
    tensors = [_tensor_of(name, entry, path) for name, entry in header.items()]
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.nbytes))
    _check_places(tensors, path, size - 8 - length)
    return [replace(tensor, begin=tensor.begin + 8 + length) for tensor in tensors]


def _tensor_of(name: str, entry: Any, path: Path) -> StoredTensor:
    """With `begin` counted from the end of the header."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        is_sound = isinstance(dtype, str) and all(type(n) is int and n >= 0 for n in (*shape, begin, end))
    except (KeyError, TypeError, ValueError):
        is_sound = False
    if not is_sound:
        raise CorruptError(
            f"import: on {path} (tensor {name}): its entry in the header is not a dtype, a shape and two offsets; "
            "download the file again"
        )
    tensor = StoredTensor(name, dtype, tuple(shape), path, begin, end - begin)
    if tensor.nbytes < 0 or (dtype in _BITS and tensor.nbytes * 8 != tensor.numel * _BITS[dtype]):
        raise CorruptError(
            f"import: on {path} (tensor {name}): {tensor.numel} elements of {dtype} do not take {tensor.nbytes} bytes "
            f"(offsets {begin} to {end}); download the file again"
        )
    return tensor


def _check_places(tensors: list[StoredTensor], path: Path, available: int) -> None:
    """Sorted by their offsets they follow each other without a gap up to the end of the file."""
    at = 0
    for tensor in tensors:
        if tensor.begin != at:
            what = "overlaps the one before" if tensor.begin < at else f"leaves a gap of {tensor.begin - at} bytes"
            raise CorruptError(
                f"import: on {path} (tensor {tensor.name}): it begins at offset {tensor.begin}, which {what}; download "
                "the file again"
            )
        at += tensor.nbytes
        if at > available:
            raise CorruptError(
                f"import: on {path} (tensor {tensor.name}): it ends at offset {at}, {available} bytes of tensors are "
                "there: the file was truncated; download it again"
            )
    if at < available:
        raise CorruptError(f"import: on {path}: {available - at} bytes behind its last tensor; download it again")
