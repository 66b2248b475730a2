"""`orlop import`: safetensors as a checkpoint to start training from."""

from __future__ import annotations

import argparse
import ctypes
import json
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .. import _native
from .._checkpoint import imported_state
from .._safetensors import DTYPES, StoredTensor, opened, read_into, tensors_at
from .._text import size
from ..errors import InvalidArgumentError, UnsupportedError
from ._progress import progress

_PIECE = 8 << 20  # bytes at a time
_NAMES = {code: name for name, (code, _, _) in DTYPES.items()}


def add_to(commands: Any) -> None:
    """Adds the subcommand."""
    importing = commands.add_parser(
        "import",
        help="make a checkpoint of safetensors, to start training from",
        description="Makes a checkpoint of the weights in safetensors files. load_checkpoint starts training from it, "
        "in any tier: masters equal the weights, moments are zero, no steps have been made. It needs no store, and can "
        "be moved. Takes little memory however large the model. It is complete, or not there.",
        epilog="Tensors must have the names of the model's parameters; load_checkpoint says which differ. Tied weights "
        "are one tensor, under the first of their names.",
    )
    importing.add_argument(
        "safetensors", type=Path, help="a .safetensors file, a model.safetensors.index.json, or a directory with either"
    )
    importing.add_argument("checkpoint", type=Path, help="a new or empty directory")
    importing.add_argument(
        "--dtype", choices=DTYPES, help="of the parameters, as the model computes with them; without it as stored"
    )
    importing.add_argument(
        "--exclude",
        metavar="PATTERN",
        action="append",
        default=[],
        help="leave out the tensors it matches ('*' anything)",
    )
    importing.add_argument(
        "--rename",
        metavar="OLD=NEW",
        action="append",
        default=[],
        help="names that begin with OLD begin with NEW instead; nothing before '=' puts NEW before every name",
    )
    importing.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """`orlop import`."""
    tensors = [tensor for tensor in tensors_at(chosen.safetensors) if tensor.numel > 0]  # others are no parameters
    tensors = _excluded(tensors, chosen.exclude)
    _check_dtypes(tensors)
    names = _renamed(tensors, chosen.rename)
    shapes = {name: list(tensor.shape) for name, tensor in zip(names, tensors, strict=True)}
    dtypes = [DTYPES[chosen.dtype or _NAMES[tensor.dtype]][1] for tensor in tensors]
    params = [(name, dtype, tensor.numel) for name, dtype, tensor in zip(names, dtypes, tensors, strict=True)]
    target = _native.Import(str(chosen.checkpoint), json.dumps(imported_state(shapes)), params)
    try:
        with progress("import") as show:
            _copy(tensors, target, show)
        target.complete()
    finally:
        target.close()
    total = sum(file.stat().st_size for file in chosen.checkpoint.iterdir())
    print(f"{chosen.checkpoint}: {len(params)} parameters, {size(total)}")
    return 0


def _excluded(tensors: list[StoredTensor], patterns: list[str]) -> list[StoredTensor]:
    for pattern in patterns:
        kept = [tensor for tensor in tensors if not fnmatchcase(tensor.name, pattern)]
        if len(kept) == len(tensors):
            raise InvalidArgumentError(f"import: on --exclude {pattern}: it matches no tensor; leave it out")
        tensors = kept
    if not tensors:
        raise InvalidArgumentError("import: no tensors: there is nothing to import")
    return tensors


def _renamed(tensors: list[StoredTensor], rules: list[str]) -> list[str]:
    names = [tensor.name for tensor in tensors]
    for rule in rules:
        old, equals, new = rule.partition("=")
        if not equals or not any(name.startswith(old) for name in names):
            why = "no name begins with it" if equals else "write OLD=NEW"
            raise InvalidArgumentError(f"import: on --rename {rule}: {why}")
        names = [new + name.removeprefix(old) if name.startswith(old) else name for name in names]
    seen: dict[str, str] = {}
    for name, tensor in zip(names, tensors, strict=True):
        if not name or not name.isprintable():
            raise InvalidArgumentError(f"import: on tensor {tensor.name!r}: {name!r} cannot be a name; --rename it")
        if name in seen:
            raise InvalidArgumentError(
                f"import: on --rename (tensor {tensor.name}): {seen[name]} would have the name {name}, too; exclude one"
            )
        seen[name] = tensor.name
    return names


def _check_dtypes(tensors: list[StoredTensor]) -> None:
    others = [tensor for tensor in tensors if tensor.dtype not in _NAMES]
    if not others:
        return
    first = others[0]
    more = f" and {len(others) - 1} others are" if len(others) > 1 else " is"
    raise UnsupportedError(
        f"import: on {first.file} (tensor {first.name}, {first.dtype}): it{more} of a type that parameters cannot have "
        f"({', '.join(_NAMES)}): convert the model, or leave them out with --exclude {first.name}"
    )


def _copy(tensors: list[StoredTensor], target: _native.Import, show: Callable[[int, int], None]) -> None:
    total = sum(tensor.nbytes for tensor in tensors)
    buffer = ctypes.create_string_buffer(min(_PIECE, max(tensor.nbytes for tensor in tensors)))
    done = 0
    for number, tensor in enumerate(tensors):
        _, dtype, width = DTYPES[_NAMES[tensor.dtype]]
        with opened(tensor.file) as file:
            for first in range(0, tensor.nbytes, _PIECE):
                count = min(_PIECE, tensor.nbytes - first)
                read_into(file, tensor.file, memoryview(buffer)[:count], tensor.begin + first)
                target.write(number, first // width, count // width, dtype, ctypes.addressof(buffer))
                done += count
                show(done, total)
