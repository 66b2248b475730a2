"""Loading what `orlop import` made: which of its tensors are parameters, buffers or tied was not known then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import _log, _native
from ._dtypes import DTYPES
from ._enums import Plane
from ._parameters import tied_names
from ._safetensors import DTYPES as NAMED

if TYPE_CHECKING:
    from ._checkpoint import Saved
    from .engine import Engine

_NAMES = {native: name for name, (_, native, _) in NAMED.items()}
_TORCH = {_NAMES[native]: dtype for dtype, native in DTYPES.items()}


def differences(engine: Engine, saved: Saved, strict: bool) -> list[str]:
    """What keeps it from being loaded, beside names that are missing and shapes."""
    dtypes = {param["name"]: param["dtype"] for param in saved.description["params"]}
    found = [
        f'"{parameter.name}" is {_NAMES[parameter.dtype]}, imported as {dtypes[parameter.name]}'
        for parameter in engine._registered
        if dtypes.get(parameter.name, _NAMES[parameter.dtype]) != _NAMES[parameter.dtype]
    ]
    registered, own, tied = {p.name for p in engine._registered}, engine._own_tensors(), tied_names(engine.module)
    for name, shape in saved.values["shapes"].items():
        if name in tied:
            if strict:
                found.append(f'"{name}" is only in the checkpoint: the model ties it to "{tied[name]}"')
        elif name not in registered and name not in own:
            if strict:
                found.append(f'"{name}" is only in the checkpoint')
        elif name in own and list(own[name].shape) != shape:
            found.append(f'buffer "{name}" has the shape {tuple(own[name].shape)}, {tuple(shape)} was imported')
    return found


def buffers(engine: Engine, saved: Saved) -> dict[str, Tensor]:
    """The values that it has for the module's buffers. Says which stay as they are."""
    own = engine._own_tensors()
    if left := sorted(own.keys() - saved.values["shapes"].keys()):
        some = ", ".join(left[:8]) + (f" and {len(left) - 8} more" if len(left) > 8 else "")
        _log.logger.warning("load_checkpoint: on %s: it has no buffer %s: left as in the model", saved.directory, some)
    checkpoint = _native.SavedCheckpoint(str(saved.directory))
    try:
        return {
            param["name"]: _read(checkpoint, number, _TORCH[param["dtype"]], own[param["name"]].shape)
            for number, param in enumerate(saved.description["params"])
            if param["name"] in own
        }
    finally:
        checkpoint.close()


def _read(checkpoint: _native.SavedCheckpoint, number: int, dtype: torch.dtype, shape: torch.Size) -> Tensor:
    values = torch.empty(shape, dtype=dtype)
    checkpoint.read(number, Plane.PARAM, 0, values.numel(), DTYPES[dtype], values.data_ptr())
    return values
