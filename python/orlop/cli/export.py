"""`orlop export`: a checkpoint's weights as safetensors, or all of it so that it needs no store."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch

from .. import _native
from .._dtypes import STORED
from .._exported import entry_of_parameter, entry_of_tensor, write_files
from .._safetensors import DTYPES
from .._saved_weights import SavedWeights, checkpoint_at
from .._text import size
from ..errors import InvalidArgumentError
from ._progress import progress

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
    checkpoint = checkpoint_at(chosen.checkpoint)
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
    files = _write_weights(checkpoint, chosen.target, None if chosen.dtype is None else STORED[DTYPES[chosen.dtype][0]])
    count = f"{len(files)} file{'s' if len(files) > 1 else ''}"
    print(f"{chosen.target}: {count}, {size(sum(file.stat().st_size for file in files))}")
    return 0


def _check_target(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidArgumentError(f"export: on {target}: it is not empty; name a new directory")


def _write_weights(checkpoint: Path, target: Path, dtype: torch.dtype | None) -> list[Path]:
    """Writes every parameter, each in its own type unless one is given, and the module's buffers; or leaves nothing."""
    with SavedWeights(checkpoint) as weights, progress("export") as show:
        entries = [entry_of_parameter(weights, saved, dtype or saved.dtype) for saved in weights.parameters]
        entries += [entry_of_tensor(name, tensor) for name, tensor in weights.buffers.items()]
        try:
            return write_files(entries, target, _FILE_BYTES, show)
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
