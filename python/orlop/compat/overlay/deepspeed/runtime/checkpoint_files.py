"""Files by DeepSpeed's names in a checkpoint, for programs that look for them or read weights and counters out of them.

The engine's own files hold everything, once, checksummed, and are what is loaded. Beside them are torch files:

    mp_rank_00_model_states.pt                        stages 0 to 2: the model's state in the types that it computes
                                                      with, counters, scheduler, shapes, client state
    zero_pp_rank_0_mp_rank_00_model_states.pt         stage 3: the same with empty parameters, as with DeepSpeed
    [bf16_]zero_pp_rank_0_mp_rank_00_optim_states.pt  from stage 1 on: the optimizer's groups; no states

So the bytes of parameters are there twice where the model is in memory anyway, masters and moments never. Under "orlop"
each says which files have what it lacks.
"""

from __future__ import annotations

import os
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orlop.compat
import torch
from orlop._parameters import is_frozen, tied_names
from orlop._parked import shape_of
from orlop.errors import NoSpaceError, TransferError
from torch import Tensor, nn
from torch.utils import _pytree

from .._version import __version__

if TYPE_CHECKING:
    from .checkpointing_of_engine import CheckpointingEngine

_SCRIPT = Path(orlop.compat.__file__).with_name("zero_to_fp32.py")


def model_states_name(stage: int, rank: int) -> str:
    """The file with the model's state; with stage 3 every rank has one."""
    return f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt" if stage == 3 else "mp_rank_00_model_states.pt"


def optim_states_name(rank: int, is_bf16: bool) -> str:
    """The file of a rank's part of the optimizer."""
    return f"{'bf16_' if is_bf16 else ''}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"


def write_files(engine: CheckpointingEngine, directory: Path, client_state: Any, exclude_frozen: bool) -> list[Path]:
    """Writes all of a checkpoint's; returns them. Raises NoSpaceError before anything is written, and TransferError."""
    stage = engine.zero_optimization_stage()
    contents = {model_states_name(stage, engine.global_rank): _model_states(engine, client_state, exclude_frozen)}
    if stage > 0:
        contents[optim_states_name(engine.global_rank, engine.bfloat16_enabled())] = _optim_states(engine)
    directory.mkdir(parents=True, exist_ok=True)
    return [write_torch_file(directory / name, content) for name, content in contents.items()]


def write_script(save_dir: Path) -> None:
    """Puts the program that consolidates weights beside `latest`."""
    path = save_dir / _SCRIPT.name
    shutil.copyfile(_SCRIPT, path)
    path.chmod(0o755)


def write_torch_file(path: Path, content: dict[str, Any]) -> Path:
    """Writes it whole or not at all, and waits until it is on the drive. Raises NoSpaceError and TransferError."""
    needed = _tensor_bytes(content)
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise NoSpaceError(f"save_checkpoint: on {path}: {needed} bytes are needed, {needed - free} too few are free")
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise TransferError(f"save_checkpoint: on {path} ({needed} bytes): {error}") from None
    return path


def _tensor_bytes(content: Any) -> int:
    tensors = [leaf for leaf in _pytree.tree_leaves(content) if isinstance(leaf, Tensor)]
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


def _model_states(engine: CheckpointingEngine, client_state: Any, exclude_frozen: bool) -> dict[str, Any]:
    module, scheduler = engine.module, engine.lr_scheduler
    state = _module_state(engine, exclude_frozen)
    return {
        "module": state,
        "buffer_names": [name for name, _ in module.named_buffers() if name in state],
        "optimizer": None,
        "param_shapes": _shapes_of_groups(engine),
        "frozen_param_shapes": None if exclude_frozen else _shapes_of_frozen(module),
        "frozen_param_fragments": None,
        "shared_params": tied_names(module),
        "lr_scheduler": scheduler.state_dict() if hasattr(scheduler, "state_dict") else None,
        "data_sampler": None,
        "random_ltd": None,
        "sparse_tensor_module_names": [],
        "skipped_steps": engine.skipped_steps,
        "global_steps": engine.global_steps,
        "global_samples": engine.global_samples,
        "dp_world_size": engine.world_size,
        "mp_world_size": 1,
        "ds_config": engine.raw_config,
        "ds_version": __version__,
        "orlop": _whereabouts(engine, "this file's module has what is in it; everything is loaded from the manifests"),
        **(client_state or {}),
    }


def _module_state(engine: CheckpointingEngine, exclude_frozen: bool) -> dict[str, Tensor]:
    """The module's state under all its names; in stage 3 an empty tensor in place of each parameter of the engine."""
    state = {
        name: tensor
        for name, tensor in engine.module.state_dict(keep_vars=True).items()
        if isinstance(tensor, Tensor) and not (exclude_frozen and is_frozen(tensor))
    }
    if engine.zero_optimization_stage() < 3:
        return OrderedDict((name, tensor.detach().cpu()) for name, tensor in state.items())
    own = engine._own_tensors()
    return OrderedDict(
        (name, tensor.detach().cpu() if name in own else torch.empty(0, dtype=tensor.dtype))
        for name, tensor in state.items()
    )


def _shapes_of_groups(engine: CheckpointingEngine) -> list[dict[str, torch.Size]]:
    shapes: list[dict[str, torch.Size]] = [OrderedDict() for _ in engine._optimizer.param_groups]
    for parameter in engine._registered:
        if not parameter.is_frozen:
            shapes[parameter.group][parameter.name] = parameter.shape
    return shapes


def _shapes_of_frozen(module: nn.Module) -> dict[str, torch.Size]:
    return {name: shape_of(parameter) for name, parameter in module.named_parameters() if is_frozen(parameter)}


def _optim_states(engine: CheckpointingEngine) -> dict[str, Any]:
    return {
        "optimizer_state_dict": {
            "zero_stage": engine.zero_optimization_stage(),
            "partition_count": engine.world_size,
            "loss_scale": engine.loss_scale(),
            "param_groups": engine._optimizer.group_values(),
        },
        "ds_config": engine.raw_config,
        "ds_version": __version__,
        "orlop": _whereabouts(engine, "masters and moments are in what the manifests name, and not in this file"),
    }


def _whereabouts(engine: CheckpointingEngine, what: str) -> dict[str, Any]:
    """Where the rest is, for people and programs that open a file."""
    manifests = [f"rank{rank}.manifest" for rank in range(engine.world_size)]
    reading = "engine.load_checkpoint, zero_to_fp32.py, orlop.client_state, `orlop export`"
    return {"what": what, "manifests": manifests, "read_by": reading}
