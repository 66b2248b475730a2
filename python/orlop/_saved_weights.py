"""The model's state in a checkpoint, without an engine: parameters, read when they are asked for, and buffers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import _native
from ._checkpoint import LATEST, MANIFEST, Saved, find
from ._dtypes import DTYPES, TORCH_TYPES
from ._enums import Plane
from ._safetensors import DTYPES as NAMED
from .errors import NotFoundError


@dataclass(frozen=True)
class SavedParameter:
    """One parameter of a checkpoint."""

    name: str
    shape: tuple[int, ...]
    numel: int
    dtype: torch.dtype
    is_trained: bool
    number: int  # in the checkpoint


class SavedWeights:
    """Everything that is read is compared with its checksum. A context manager."""

    def __init__(self, directory: Path) -> None:
        """Raises NotFoundError and CorruptError."""
        about = _native.describe_checkpoint(str(directory))
        known = Saved(directory).values if "python" in about["client"] else {}
        self.directory = directory
        shapes = known.get("shapes", {})
        self.parameters = [
            SavedParameter(
                param["name"],
                tuple(shapes.get(param["name"], (param["numel"],))),
                param["numel"],
                TORCH_TYPES[NAMED[param["dtype"]][1]],
                param["trainable"],
                number,
            )
            for number, param in enumerate(about["params"])
        ]
        self.buffers: dict[str, Tensor] = known.get("buffers", {})
        """Of the module, and parameters that the engine had no use for."""
        self.tied: dict[str, str] = known.get("tied", {})
        """Further names of parameters, each with the first."""
        self.frozen = set(known.get("frozen", ()))
        """Names of parameters that were not trained, among those of `buffers` as well."""
        self._checkpoint = _native.SavedCheckpoint(str(directory))

    def read(self, parameter: SavedParameter, dtype: torch.dtype) -> Tensor:
        """A parameter's values; in fp32 the master of one that is trained."""
        values = torch.empty(parameter.shape, dtype=dtype)
        self.read_piece(parameter, 0, values.view(-1))
        return values

    def read_piece(self, parameter: SavedParameter, first: int, into: Tensor) -> None:
        """As many values from element `first` on as `into` has, in its type."""
        is_master = into.dtype == torch.float32 and parameter.is_trained
        plane = Plane.MASTER if is_master else Plane.PARAM
        self._checkpoint.read(parameter.number, plane, first, into.numel(), DTYPES[into.dtype], into.data_ptr())

    def close(self) -> None:
        self._checkpoint.close()

    def __enter__(self) -> SavedWeights:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def checkpoint_at(path: Path, tag: str | None = None) -> Path:
    """The checkpoint that a path, or a directory of checkpoints, means: by its tag, or the latest."""
    if tag is None and (path / MANIFEST).is_file():
        return path
    found = find(path, tag) if tag is not None or (path / LATEST).is_file() else None
    if found is None:
        raise NotFoundError(f"export: on {path}: it is no checkpoint of Orlop, and has no latest one")
    return found
