"""Weights of safetensors files for a model that need not fit into memory: each parameter refers to its bytes there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ._dtypes import DTYPES, STORED
from ._init import guard
from ._parked import parked, parked_at, plain_torch, shape_of
from ._safetensors import StoredTensor, opened, read_into, tensors_at
from ._scratch import PIECE_BYTES, new_buffer
from .engine import check_unclaimed
from .errors import InvalidArgumentError

_SHOWN = 8  # names of each kind


class FileValues:
    """A tensor's bytes in a safetensors file, which stays open."""

    def __init__(self, tensor: StoredTensor, file: FileIO) -> None:
        self.tensor = tensor
        self._file = file

    def pieces(self) -> Iterator[memoryview]:
        buffer = new_buffer(self.tensor.nbytes)
        for begin in range(0, self.tensor.nbytes, PIECE_BYTES):
            piece = buffer[: min(PIECE_BYTES, self.tensor.nbytes - begin)]
            read_into(self._file, self.tensor.file, piece, self.tensor.begin + begin)
            yield piece


@dataclass
class Differences:
    """What of a model and of files does not agree."""

    missing: list[str] = field(default_factory=list)
    """Names of the model that no file has."""
    unexpected: list[str] = field(default_factory=list)
    """Names of files that the model does not have."""
    mismatched: list[str] = field(default_factory=list)
    """Names of both, with the shapes or types that differ."""

    def sentence(self) -> str:
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("different", self.mismatched))
        return "; ".join(f"{kind}: {_some(names)}" for kind, names in kinds if names)


def load_safetensors(
    model: nn.Module,
    path: str | os.PathLike[str],
    strict: bool = True,
    device: str | torch.device = "cpu",
) -> Differences:
    """Gives a model the weights of safetensors files before `initialize`, without having it in memory.

    model: on the meta device, built inside `zero.Init`, or an ordinary one. Of the first two each parameter is its
        place in the file until `initialize` streams it into the engine; keep the files as they are until then.
    path: a file, an index, or the directory of a model.
    strict: whether names that only the model or only the files have are an error.
    device: where parameters of the meta device are to be.

    Names are those of `model.state_dict()`; of tied weights one name is enough. Parameters and buffers keep the model's
    types: values are converted to the nearest, as torch's load_state_dict does. Returns what differs. Raises
    InvalidArgumentError with all missing, unexpected and different names, and then has changed nothing.
    """
    check_unclaimed("load_safetensors", model)
    stored = {tensor.name: tensor for tensor in tensors_at(Path(path))}
    wanted = {name: tensor for name, tensor in _state(model).items() if isinstance(tensor, Tensor)}
    differences = _compare(wanted, stored)
    needed = [name for name in differences.missing if wanted[name].is_meta]
    if differences.mismatched or needed or (strict and (differences.missing or differences.unexpected)):
        raise InvalidArgumentError(f"load_safetensors: on {path}: {differences.sentence()}")
    _Load(model, torch.device(device)).take_all(wanted, stored)
    return differences


def _state(model: nn.Module) -> dict[str, Tensor]:
    """By name, tied ones under each: what a file can have, and what of the meta device is in no file."""
    state: dict[str, Tensor] = dict(model.state_dict(keep_vars=True))
    state.update((name, buffer) for name, buffer in model.named_buffers() if buffer.is_meta)
    return state


def _compare(wanted: dict[str, Tensor], stored: dict[str, StoredTensor]) -> Differences:
    there = {id(wanted[name]) for name in wanted.keys() & stored.keys()}
    found = Differences(
        missing=[name for name, tensor in wanted.items() if id(tensor) not in there],
        unexpected=sorted(stored.keys() - wanted.keys()),
    )
    for name in sorted(wanted.keys() & stored.keys()):
        ours, theirs = wanted[name], stored[name]
        shape = tuple(shape_of(ours))
        if shape != theirs.shape:
            found.mismatched.append(f"{name} (shape {shape}, stored {theirs.shape})")
        elif not _is_convertible(ours.dtype, theirs.dtype):
            found.mismatched.append(f"{name} ({str(ours.dtype).removeprefix('torch.')}, stored {theirs.dtype})")
    return found


def _is_convertible(ours: torch.dtype, theirs: str) -> bool:
    return theirs in STORED and (
        STORED[theirs] == ours or (ours.is_floating_point and STORED[theirs].is_floating_point)
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


class _Load:
    """Gives each tensor of one model its values; tied ones are one tensor."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._device = device
        self._files: dict[Path, FileIO] = {}
        self._taken: set[int] = set()
        self._owners: dict[int, list[tuple[nn.Module, dict[str, Any], str]]] = {}
        for module in model.modules():
            for own in (module._parameters, module._buffers):
                for name, tensor in own.items():
                    self._owners.setdefault(id(tensor), []).append((module, own, name))

    def take_all(self, wanted: dict[str, Tensor], stored: dict[str, StoredTensor]) -> None:
        for name, tensor in wanted.items():
            if name in stored and id(tensor) not in self._taken:
                self._taken.add(id(tensor))
                with plain_torch():
                    self._take(tensor, stored[name])

    def _take(self, tensor: Tensor, stored: StoredTensor) -> None:
        if stored.file not in self._files:
            self._files[stored.file] = opened(stored.file)
        source, dtype = FileValues(stored, self._files[stored.file]), STORED[stored.dtype]
        if (found := parked(tensor)) is not None:
            found.take(source, dtype)
        elif not tensor.is_meta:
            _fill(tensor, source, dtype)
        elif isinstance(tensor, nn.Parameter) and tensor.dtype in DTYPES and tensor.numel() > 0:
            self._replace(tensor, parked_at(source, dtype, tensor, self._device))
        else:
            values = torch.empty_like(tensor, device=self._device)
            _fill(values, source, dtype)
            twin = nn.Parameter(values, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values
            self._replace(tensor, twin)

    def _replace(self, tensor: Tensor, twin: Tensor) -> None:
        """What is on the meta device cannot leave it: every module that has it is given another."""
        for module, own, name in self._owners[id(tensor)]:
            own[name] = twin
            guard(module)


def _fill(tensor: Tensor, source: FileValues, dtype: torch.dtype) -> None:
    values = tensor.detach() if tensor.is_contiguous() else torch.empty(tensor.shape, dtype=tensor.dtype)
    flat, first = values.view(-1), 0
    for piece in source.pieces():
        part = torch.frombuffer(piece, dtype=dtype)
        flat[first : first + part.numel()] = part
        first += part.numel()
    if not tensor.is_contiguous():
        tensor.detach().copy_(values)
