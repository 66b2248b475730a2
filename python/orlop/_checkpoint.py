"""Checkpoints: what the engine saves by itself, and beside it what only Python knows.

A checkpoint is a directory `<save_dir>/<tag>`; `<save_dir>/latest` names the last one that is complete. The engine
writes its manifest last, so that a directory without one is no checkpoint; the manifest carries, as JSON, the counters,
optimizer groups, scheduler, random number generators and the client's own state, whose tensors are in a safetensors
file.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import _imported, _log, _native, _rng
from ._client_state import decode, encode
from ._enums import LOAD_COMMON_ONLY, LOAD_PARAMS_ONLY, LOAD_REGISTERED_ONLY, SAVE_TRAINED_ONLY
from ._parameters import is_frozen, tied_names
from .errors import CorruptError, InvalidArgumentError, NotFoundError, OrlopError, TransferError

if TYPE_CHECKING:
    from .engine import Engine

MANIFEST = "rank0.manifest"
LATEST = "latest"
_BACKGROUND_RATE = 1_000_000_000  # bytes per second


@dataclass
class Save:
    """A checkpoint being written."""

    directory: Path
    tensors: Path

    def complete(self) -> None:
        """It exists now: removes what it took the place of."""
        with contextlib.suppress(OSError):  # nothing depends on it
            for path in self.directory.glob("client-*.safetensors"):
                if path != self.tensors:
                    path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """It will not exist."""
        self.tensors.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.directory.rmdir()  # if it was made for this one


def setting(engine: Engine, name: str, default: Any = None) -> Any:
    """A value of the configuration's block orlop.checkpoint."""
    return engine._config.get(f"orlop.checkpoint.{name}", default)


def goes_on_after(engine: Engine, error: Exception) -> bool:
    """Whether a checkpoint that could not be saved is no more than a warning, which is given then."""
    if setting(engine, "on_failure") != "continue":
        return False
    _log.logger.warning("%s; training goes on, as orlop.checkpoint.on_failure says", error)
    return True


def begin(
    engine: Engine,
    save_dir: str | os.PathLike[str],
    tag: str,
    client_state: Any,
    save_latest: bool,
    exclude_frozen: bool,
) -> None:
    """Writes what only Python knows and lets the engine begin with the rest; `engine._save` is it from then on."""
    directory = directory_of(save_dir, tag, "save_checkpoint")
    state, tensors = _collect(engine, client_state, exclude_frozen)
    directory.mkdir(parents=True, exist_ok=True)
    save = Save(directory, directory / f"client-{uuid.uuid4()}.safetensors")
    try:
        checksum = _write_tensors(save.tensors, tensors)
    except BaseException:
        save.abandon()
        raise
    client = {"python": json.dumps(state), "tensors": save.tensors.name, "tensors_sha256": checksum}
    rate = setting(engine, "rate", _BACKGROUND_RATE) if setting(engine, "background") else 0
    replaced = _superseded(directory, setting(engine, "keep"), save_latest)
    latest = str(directory.parent / LATEST) if save_latest else None
    engine._save = save  # before the engine begins: Ctrl-C may come in between
    try:
        flags = SAVE_TRAINED_ONLY if exclude_frozen else 0
        engine._native.save_begin(str(directory), json.dumps(client), replaced, latest, rate, flags)
    except OrlopError:
        engine._save = None
        save.abandon()
        raise


def directory_of(folder: str | os.PathLike[str], tag: str, call: str) -> Path:
    """Where a checkpoint is. Raises InvalidArgumentError for what cannot be one's folder or tag."""
    return _directory(folder, call) / _checked_tag(tag)


def _directory(given: Any, call: str) -> Path:
    if given is None or not os.fspath(given):
        raise InvalidArgumentError(f"{call}: on directory {given!r}: name one")
    return Path(os.path.abspath(given))


def _checked_tag(tag: str) -> str:
    if not tag or tag in (".", "..", LATEST) or "/" in tag or "\0" in tag:
        raise InvalidArgumentError(
            f"checkpoint: on tag {tag!r}: it names a directory: one name without '/', not 'latest'"
        )
    return tag


def _superseded(directory: Path, keep: int | None, updates_latest: bool) -> list[str]:
    """The oldest checkpoints beside `directory`, so many that `keep` are left with it; not what `latest` will name."""
    if keep is None:
        return []
    latest = directory.parent / LATEST
    spared = {directory}
    if not updates_latest and latest.is_file():
        spared.add(directory.parent / latest.read_text(encoding="utf-8").strip())
    found = (m for m in directory.parent.glob(f"*/{MANIFEST}") if not m.parent.is_symlink())
    manifests = [manifest for manifest in found if manifest.parent not in spared]
    manifests.sort(key=lambda manifest: manifest.stat().st_mtime_ns)
    return [str(manifest.parent) for manifest in manifests[: max(0, len(manifests) + len(spared) - keep)]]


def _collect(engine: Engine, client_state: Any, exclude_frozen: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
    scheduler = engine.lr_scheduler
    frozen = _frozen_names(engine)
    left_out = frozen if exclude_frozen else set()
    values = {
        "global_steps": engine.global_steps,
        "skipped_steps": engine.skipped_steps,
        "global_samples": engine.global_samples,
        "groups": engine._optimizer.group_values(),
        "optimizer_states": None if engine._torch_update is None else engine._torch_update.states(),
        "lr_scheduler": scheduler.state_dict() if hasattr(scheduler, "state_dict") else None,
        "rng": _rng.states(),
        "buffers": {name: tensor for name, tensor in engine._own_tensors().items() if name not in left_out},
        "shapes": {p.name: list(p.shape) for p in engine._registered if p.name not in left_out},
        "tied": tied_names(engine.module),
        "frozen": sorted(frozen - left_out),
        "client_state": {} if client_state is None else client_state,
    }
    tensors: dict[str, Tensor] = {}
    return {name: encode(value, tensors, name) for name, value in values.items()}, tensors


def _frozen_names(engine: Engine) -> set[str]:
    """Of parameters that are not trained, whether the engine has them or torch."""
    own = engine._own_tensors().items()
    return {parameter.name for parameter in engine._registered if parameter.is_frozen} | {
        name for name, tensor in own if is_frozen(tensor)
    }


def imported_state(shapes: dict[str, list[int]]) -> dict[str, str]:
    """What Python keeps in a checkpoint of nothing but parameters."""
    values = {
        "global_steps": 0,
        "skipped_steps": 0,
        "global_samples": 0,
        "lr_scheduler": None,
        "buffers": {},
        "shapes": shapes,
        "client_state": {},
    }
    return {"python": json.dumps(values)}


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> str:
    """Writes the file; returns its SHA-256."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # Copies: several names may share memory, which the format does not know.
    copies = {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    try:
        save_file(copies, path)
    except SafetensorError as error:
        raise TransferError(f"save_checkpoint: on {path}: {error}") from None
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return checksum_of(path)


def checksum_of(path: Path) -> str:
    """The SHA-256 of a file."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            total.update(piece)
    return total.hexdigest()


def write_durably(path: Path, text: str) -> None:
    """A small file, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


# ---- Loading ----


def find(load_dir: str | os.PathLike[str], tag: str | None) -> Path | None:
    """The directory of a checkpoint; None when no tag is given and none is the latest."""
    folder = _directory(load_dir, "load_checkpoint")
    if tag is not None:
        return folder / _checked_tag(str(tag))
    try:
        return folder / _checked_tag((folder / LATEST).read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        _log.logger.warning(
            "load_checkpoint: on %s: it has no file 'latest', so nothing is loaded; give a tag to load a certain one",
            folder,
        )
        return None


class Saved:
    """What Python kept in a checkpoint."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.description = _native.describe_checkpoint(str(directory))
        self.has_states: bool = self.description["has_states"]  # else it was imported
        client = self.description["client"]
        if "python" not in client:
            raise NotFoundError(
                f"load_checkpoint: on {directory}: it was not saved by the Python package, and has none of its state; "
                "load it through the interface that saved it"
            )
        check_tensors(directory, self.description)
        tensors = _read_tensors(directory / client["tensors"]) if "tensors" in client else {}
        state = json.loads(client["python"])
        try:
            self.values: dict[str, Any] = {name: decode(value, tensors) for name, value in state.items()}
        except KeyError as error:
            raise CorruptError(
                f"load_checkpoint: on {directory / client['tensors']}: tensor {error} is missing"
            ) from None


def check_tensors(directory: Path, description: dict[str, Any]) -> None:
    """Raises CorruptError unless the file of tensors that a checkpoint names is as it was written."""
    client = description["client"]
    if "tensors_sha256" not in client:
        return
    path = directory / client["tensors"]
    try:
        found = checksum_of(path)
    except OSError as error:
        raise CorruptError(f"checkpoint: on {path}: {error}; load an older checkpoint") from None
    if found != client["tensors_sha256"]:
        raise CorruptError(
            f"checkpoint: on {path}: what was read is not what was written: expected SHA-256 "
            f"{client['tensors_sha256']}, found {found}; load an older checkpoint"
        )


def client_state(directory: str | os.PathLike[str]) -> Any:
    """The `client_state` that was given when a checkpoint was saved, without loading it.

    directory: `<save_dir>/<tag>`. Raises NotFoundError and CorruptError.
    """
    return Saved(Path(directory)).values["client_state"]


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CorruptError(f"load_checkpoint: on {path}: {error}; load an older checkpoint") from None


def begin_load(engine: Engine, saved: Saved, with_states: bool, strict: bool) -> None:
    """Lets the engine begin, unless the two do not fit; without `strict` only what both have must."""
    flags = (0 if with_states else LOAD_PARAMS_ONLY) | (0 if strict else LOAD_COMMON_ONLY)
    if saved.has_states:
        found = _parameter_differences(engine, saved, strict) + _other_differences(engine, saved, strict)
        _raise_differences(found + _group_differences(engine, saved, with_states), "it is of another model")
    else:
        found = _parameter_differences(engine, saved, strict) + _imported.differences(engine, saved, strict)
        _raise_differences(found, "what was imported is not what the model has (see orlop import --help)")
        saved.values["buffers"] = _imported.buffers(engine, saved)
        flags |= LOAD_REGISTERED_ONLY
    engine._native.load_begin(str(saved.directory), flags)


def _raise_differences(found: list[str], why: str) -> None:
    if found:
        list_of_some = "; ".join(found[:8]) + (f"; and {len(found) - 8} more" if len(found) > 8 else "")
        raise InvalidArgumentError(f"load_checkpoint: {len(found)} differences: {why}: {list_of_some}")


def _parameter_differences(engine: Engine, saved: Saved, strict: bool) -> list[str]:
    shapes = saved.values["shapes"]
    found = []
    for parameter in engine._registered:
        shape = shapes.get(parameter.name)
        if shape is None:
            if strict:
                found.append(f'"{parameter.name}" is not in the checkpoint')
        elif shape != list(parameter.shape):
            found.append(f'"{parameter.name}" has the shape {tuple(parameter.shape)}, {tuple(shape)} was saved')
    return found


def _other_differences(engine: Engine, saved: Saved, strict: bool) -> list[str]:
    shapes, buffers, ours = saved.values["shapes"], saved.values["buffers"], engine._own_tensors()
    found = []
    if strict:
        names = {parameter.name for parameter in engine._registered}
        found += [f'"{name}" is only in the checkpoint' for name in shapes if name not in names]
        found += [f'buffer "{name}" is not in the checkpoint' for name in ours if name not in buffers]
        found += [f'buffer "{name}" is only in the checkpoint' for name in buffers if name not in ours]
    found += [
        f'buffer "{name}" has the shape {tuple(ours[name].shape)}, {tuple(buffers[name].shape)} was saved'
        for name in ours.keys() & buffers.keys()
        if ours[name].shape != buffers[name].shape
    ]
    return found


def _group_differences(engine: Engine, saved: Saved, with_states: bool) -> list[str]:
    groups, saved_groups = len(engine._optimizer.param_groups), len(saved.values["groups"])
    if not with_states or groups == saved_groups:
        return []
    return [f"the optimizer has {groups} groups, {saved_groups} were saved"]


def restore(engine: Engine, saved: Saved, with_states: bool, with_scheduler: bool) -> Any:
    """Sets what only Python knows; returns the client's state."""
    values = saved.values
    engine._set_own_tensors(values["buffers"])
    if with_states:
        engine.global_steps = values["global_steps"]
        engine.skipped_steps = values["skipped_steps"]
        engine.global_samples = values["global_samples"]
        engine.micro_steps = engine._earlier_micro_steps = engine.global_steps * engine.gradient_accumulation_steps()
    if with_states and saved.has_states:
        engine._optimizer.set_group_values(values["groups"])
        if engine._torch_update is not None:
            engine._torch_update.set_states(values["optimizer_states"])
        _rng.restore(values["rng"])
    if with_scheduler and engine.lr_scheduler is not None and values["lr_scheduler"] is not None:
        engine.lr_scheduler.load_state_dict(values["lr_scheduler"])
    return values["client_state"]


class Outcome(enum.Enum):
    """What has become of a save."""

    PENDING = enum.auto()
    SAVED = enum.auto()
    FAILED = enum.auto()


def finish(engine: Engine, save: Save, wait: bool) -> Outcome:
    """What has become of a save; raises when it failed, or warns where the configuration says to go on."""
    try:
        if not engine._native.checkpoint_wait(wait):
            return Outcome.PENDING
    except OrlopError as error:
        save.abandon()
        if not goes_on_after(engine, error):
            raise
        return Outcome.FAILED
    save.complete()
    return Outcome.SAVED
