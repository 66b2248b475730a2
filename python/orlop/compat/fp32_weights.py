"""fp32 weights out of a checkpoint: what DeepSpeed's zero_to_fp32 gives, as functions and as a command.

The values are the masters, as they were trained; of frozen parameters and buffers those they have. Nothing of a package
`deepspeed` is needed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import _log
from .._exported import Entry, entry_of_parameter, entry_of_tensor, write_files
from .._saved_weights import SavedParameter, SavedWeights, checkpoint_at
from ..engine import Engine, open_engines
from ..errors import InvalidArgumentError, OrlopError

_Path = str | os.PathLike[str]


class LazyTensor:
    """A parameter's fp32 values, read by `contiguous()` from the checkpoint, which must still be there."""

    dtype = torch.float32

    def __init__(self, directory: Path, parameter: SavedParameter) -> None:
        self.shape = torch.Size(parameter.shape)
        self._directory = directory
        self._parameter = parameter

    def contiguous(self) -> Tensor:
        """The values."""
        with SavedWeights(self._directory) as weights:
            return weights.read(self._parameter, self.dtype)

    def numel(self) -> int:
        return self.shape.numel()


def fp32_state_dict(
    checkpoint_dir: _Path, tag: str | None = None, exclude_frozen_parameters: bool = False, lazy_mode: bool = False
) -> dict[str, Any]:
    """The whole state in host memory, tied names sharing a tensor: 4 bytes per parameter.

    checkpoint_dir: the directory with the file `latest`, or a checkpoint itself. tag: of another than the latest.
    lazy_mode: parameters are `LazyTensor`s. Floating-point buffers are fp32, others keep their type. Raises
    NotFoundError and CorruptError.
    """
    with SavedWeights(checkpoint_at(Path(checkpoint_dir), tag)) as weights:
        state: dict[str, Any] = {name: _in_fp32(tensor) for name, tensor in _others(weights, exclude_frozen_parameters)}
        for parameter in _parameters(weights, exclude_frozen_parameters):
            state[parameter.name] = (
                LazyTensor(weights.directory, parameter) if lazy_mode else weights.read(parameter, torch.float32)
            )
        state.update((name, state[first]) for name, first in weights.tied.items() if first in state)
    return state


def _parameters(weights: SavedWeights, exclude_frozen: bool) -> list[SavedParameter]:
    return [parameter for parameter in weights.parameters if parameter.is_trained or not exclude_frozen]


def _others(weights: SavedWeights, exclude_frozen: bool) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in weights.buffers.items():
        if name not in weights.frozen or not exclude_frozen:
            yield name, tensor


def _in_fp32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def load_fp32_state(model: nn.Module, checkpoint_dir: _Path, tag: str | None = None) -> nn.Module:
    """Gives a model the fp32 weights of a checkpoint, rounded to its own types; returns the model.

    A model that an open engine trains is given them through that engine, whose masters then take the rounded values.
    Any other is moved to the CPU first.
    """
    state = fp32_state_dict(checkpoint_dir, tag)
    engine = _engine_of(model)
    if engine is not None:
        engine.load_module_state_dict(state, strict=False)
        return model
    model.cpu().load_state_dict(state, strict=False)
    return model


def _engine_of(model: nn.Module) -> Engine | None:
    return next((engine for engine in open_engines() if model in (engine, engine.module)), None)


# ---- Files ----


def write_fp32_weights(
    checkpoint_dir: _Path,
    output_dir: _Path,
    max_shard_size: str | int | None = "5GB",
    safe_serialization: bool = False,
    tag: str | None = None,
    exclude_frozen_parameters: bool = False,
) -> list[Path]:
    """Writes the whole state as files that Hugging Face's from_pretrained reads; returns those of weights.

    output_dir: made if it is not there; files of other names in it stay. max_shard_size: of one file, as bytes or text
    ("5GB", "500MiB"); None: one file. safe_serialization: model.safetensors, streamed, with tied tensors under each of
    their names; without it pytorch_model.bin, of which one file at a time is in memory. Several files have an index.
    """
    target = Path(output_dir)
    limit = sys.maxsize if max_shard_size is None else bytes_of(max_shard_size)
    with SavedWeights(checkpoint_at(Path(checkpoint_dir), tag)) as weights:
        parameters = _parameters(weights, exclude_frozen_parameters)
        others = {name: _in_fp32(tensor) for name, tensor in _others(weights, exclude_frozen_parameters)}
        if safe_serialization:
            return write_files(_entries(weights, parameters, others), target, limit, lambda _done, _total: None)
        return _write_torch_files(weights, parameters, others, target, limit)


def _entries(weights: SavedWeights, parameters: list[SavedParameter], others: dict[str, Tensor]) -> list[Entry]:
    names = _names_of(weights, parameters)
    entries = [entry_of_tensor(name, tensor) for name, tensor in others.items()]
    for parameter in parameters:
        entries += [entry_of_parameter(weights, parameter, torch.float32, name) for name in names[parameter.name]]
    return entries


def _names_of(weights: SavedWeights, parameters: list[SavedParameter]) -> dict[str, list[str]]:
    """Every name of each parameter, by the first."""
    names = {parameter.name: [parameter.name] for parameter in parameters}
    for name, first in weights.tied.items():
        if first in names:
            names[first].append(name)
    return names


def _write_torch_files(
    weights: SavedWeights, parameters: list[SavedParameter], others: dict[str, Tensor], target: Path, limit: int
) -> list[Path]:
    target.mkdir(parents=True, exist_ok=True)
    groups = _cut(parameters, limit - sum(tensor.nbytes for tensor in others.values()), limit)
    names = _names_of(weights, parameters)
    files: list[Path] = []
    index: dict[str, str] = {}
    for number, group in enumerate(groups):
        name = f"pytorch_model-{number + 1:05d}-of-{len(groups):05d}.bin" if len(groups) > 1 else "pytorch_model.bin"
        state = dict(others) if number == 0 else {}
        for parameter in group:
            state.update(dict.fromkeys(names[parameter.name], weights.read(parameter, torch.float32)))
        torch.save(state, target / name)
        index |= dict.fromkeys(state, name)
        files.append(target / name)
    if len(files) > 1:
        total = sum(4 * parameter.numel for parameter in parameters) + sum(tensor.nbytes for tensor in others.values())
        content = {"metadata": {"total_size": total}, "weight_map": index}
        (target / "pytorch_model.bin.index.json").write_text(json.dumps(content, indent=2))
    return files


def _cut(parameters: list[SavedParameter], first_limit: int, limit: int) -> list[list[SavedParameter]]:
    """What is in one file each; the first one has less room."""
    groups: list[list[SavedParameter]] = [[]]
    left = first_limit
    for parameter in parameters:
        nbytes = 4 * parameter.numel
        if groups[-1] and nbytes > left:
            groups.append([])
            left = limit
        groups[-1].append(parameter)
        left -= nbytes
    return groups


def bytes_of(size: str | int) -> int:
    """A number of bytes, or a text like "5GB" or "500MiB". Raises InvalidArgumentError for another."""
    match = re.fullmatch(r"\s*(\d+)\s*([KMGT]?)(I?)B?\s*", str(size).upper())
    if match is None or int(match[1]) == 0:
        raise InvalidArgumentError(
            f'max_shard_size: on {size!r}: write a number of bytes, or one like "5GB" or "500MB"'
        )
    base = 1024 if match[3] else 1000
    return int(match[1]) * int(base ** " KMGT".index(match[2] or " "))


# ---- The command ----


def main(arguments: list[str] | None = None) -> int:
    """zero_to_fp32.py, which is in every directory of checkpoints. The exit status."""
    chosen = _parser().parse_args(arguments)
    if chosen.debug:
        logging.basicConfig(level=logging.DEBUG)
        _log.follow_logger()
    try:
        files = write_fp32_weights(
            chosen.checkpoint_dir,
            chosen.output_dir,
            chosen.max_shard_size,
            chosen.safe_serialization,
            chosen.tag,
            chosen.exclude_frozen_parameters,
        )
    except OrlopError as error:
        print(f"zero_to_fp32: {error}", file=sys.stderr)
        return 1
    for file in files:
        print(f"{file}: {file.stat().st_size} bytes")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zero_to_fp32.py",
        description="Writes the fp32 weights of a checkpoint of Orlop as from_pretrained reads them.",
    )
    parser.add_argument("checkpoint_dir", help="the directory with the file `latest`, or one checkpoint")
    parser.add_argument("output_dir", help="the directory to write into")
    parser.add_argument("--max_shard_size", default="5GB", help="of one file (5GB)")
    parser.add_argument("--safe_serialization", action="store_true", help="model.safetensors, not pytorch_model.bin")
    parser.add_argument("-t", "--tag", help="of the checkpoint, instead of the latest")
    parser.add_argument("--exclude_frozen_parameters", action="store_true", help="only what was trained, and buffers")
    parser.add_argument("-d", "--debug", action="store_true", help="log what is read")
    return parser
