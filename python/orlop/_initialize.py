"""From a model and a configuration to an engine that trains it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any, Optional, TypeVar

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data.distributed import DistributedSampler

from . import _heap, _log, checkpointing
from ._dtypes import BY_NAME
from ._enums import DeviceKind, OptimizerKind
from ._hooks import GradientFlow
from ._init import bring_what_stays, end_building, is_building
from ._leaf_modules import set_configured
from ._native import NativeEngine
from ._parameters import (
    Parameter,
    cast_buffers,
    cast_parameters,
    check_group_members,
    check_memory,
    check_unscaled,
    device_of,
    parameters_of,
)
from ._parked import away, bytes_on_drive
from ._partitioned import mark_whole
from ._torch_update import TorchUpdate, check_runnable
from ._units import Units
from .config import Config, ConfigSource
from .engine import Engine, check_unclaimed
from .errors import ConfigError, NoSpaceError, OutOfOrderError, UnsupportedError
from .lr_schedules import schedule_maker
from .optimizer import Groups, Optimizer, block_of, client_of, groups_of

PRINT_CONFIG = "ORLOP_PRINT_CONFIG"  # in the environment: print every engine's configuration

_EXTERNAL = {"type": "External"}  # an optimizer of the program's, or none

EngineType = TypeVar("EngineType", bound=Engine)
Initialized = tuple[Engine, Optimizer, Optional["DataLoader[Any]"], Any]


def initialize(
    args: Any = None,
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | Callable[[Groups], torch.optim.Optimizer] | None = None,
    model_parameters: Iterable[Any] | None = None,
    training_data: Any = None,
    lr_scheduler: Any = None,
    *,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    config: ConfigSource | None = None,
    config_params: ConfigSource | None = None,
) -> Initialized:
    """Gives a model's parameters and optimizer states to an engine.

    model: its parameters are converted to bfloat16 if bf16.enabled says so, and become views of the engine's memory.
    optimizer: a new torch optimizer, or a function that makes one from parameter groups; its groups' values are used.
        AdamW, Adam and Adagrad, and those of orlop.optim, run in the engine, others in torch, in fp32 on the host, with
        states that stay there. By default the configuration's "optimizer" block.
    model_parameters: parameters, or groups of them as for a torch optimizer; by default all that require a gradient.
    training_data: a dataset; the returned loader gives shuffled micro-batches of train_micro_batch_size_per_gpu.
    lr_scheduler: a torch scheduler made for `optimizer`, or a function that makes one for the optimizer it is given.
        By default the configuration's "scheduler" block. The engine steps it after every update that was applied.
    collate_fn: as for torch's DataLoader.
    config: a DeepSpeed configuration: a dict, JSON text or the path of a file. `config_params` and
        `args.deepspeed_config` are other ways to give it.

    Returns (engine, optimizer, loader or None, lr scheduler or None). Raises OrlopError and its subclasses: ConfigError
    for the configuration, NoMemoryError and NoSpaceError with the shortfall when it does not fit, before anything is
    created.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"initialize: model is a {type(model).__name__}: must be a torch.nn.Module")
    if is_building():
        raise OutOfOrderError(
            "initialize: inside a block of zero.Init: the model is complete at its end; call it after that"
        )
    _log.follow_logger()
    resolved = Config(_one_source(args, config, config_params))
    loader = None if training_data is None else _loader(resolved, training_data, collate_fn)
    engine = build(Engine, model, resolved, optimizer, model_parameters, lr_scheduler)
    engine.training_dataloader = loader
    return engine, engine._optimizer, loader, engine.lr_scheduler


def build(
    engine_class: type[EngineType],
    model: nn.Module,
    config: Config,
    optimizer: Any = None,
    model_parameters: Iterable[Any] | None = None,
    lr_scheduler: Any = None,
    trains: bool = True,
) -> EngineType:
    """An engine of a class around a model; the arguments are those of `initialize`.

    Without `trains` it has no optimizer: every parameter counts as frozen, and gradients stay with torch.
    """
    if config.get("log_level"):
        _log.set_level(config.get("log_level"))
    if os.environ.get(PRINT_CONFIG) or config.get("dump_state"):
        print(config.table(), flush=True)
    if lr_scheduler is None and trains:
        lr_scheduler = schedule_maker(config)
    check_memory(model)
    check_unclaimed("initialize", model)  # before anything of it is changed
    _set_precision(model, config)
    set_configured(model, config)
    groups, client = _choose_optimizer(model, optimizer, model_parameters) if trains else ([{"params": []}], None)
    parameters = parameters_of(model, groups, trains)
    native = _open(config, parameters, _block(config, client) if trains else _EXTERNAL)
    units = Units(native)
    try:
        flow = _register(native, config, parameters)
        engine_optimizer = engine_class.optimizer_class(config, client)(native, flow, groups, client)
        _check_drive_budget(native, config, parameters)
        native.commit()
        _move_in(native, parameters, units)
        bring_what_stays(model, (parameter.tensor for parameter in parameters))
        if engine_class.scatters(config):
            _scatter(model, config, parameters, units)
        scheduler = _choose_scheduler(lr_scheduler, engine_optimizer)
        checkpointing.configure_for(config, native)
    except BaseException:
        _move_out(native, parameters, units)
        raise
    end_building(model)
    units.attach(model)
    if not trains:
        flow.tell_boundary(False)  # passes come and go, and no update
    flow.on_taken = units.note_gradient if units else None
    flow.attach([parameter for parameter in parameters if not parameter.is_frozen])
    torch_update = None
    if client is not None and engine_optimizer.kind is OptimizerKind.EXTERNAL:
        torch_update = TorchUpdate(native, parameters, client)
    return engine_class(model, config, native, parameters, engine_optimizer, flow, units, scheduler, torch_update)


def _one_source(args: Any, config: ConfigSource | None, config_params: ConfigSource | None) -> ConfigSource | None:
    given = [
        source for source in (config, config_params, getattr(args, "deepspeed_config", None)) if source is not None
    ]
    if len(given) > 1:
        raise ConfigError(
            "initialize: the configuration is given more than once: keep one of config, config_params and "
            "args.deepspeed_config"
        )
    return given[0] if given else None


def _set_precision(model: nn.Module, config: Config) -> None:
    if config.get("fp16.enabled"):
        cast_parameters(model, torch.float16)
    elif config.get("bf16.enabled"):
        cast_parameters(model, torch.bfloat16)
    else:
        check_unscaled(model)
        _check_autocast(config)
    if config.get("data_types.buffer_dtype"):
        cast_buffers(model, BY_NAME[config.get("data_types.buffer_dtype")])


def _check_autocast(config: Config) -> None:
    if config.get("torch_autocast.enabled") and config.get("torch_autocast.dtype") == "fp16":
        raise UnsupportedError(
            'initialize: on "torch_autocast.dtype" ("fp16"): small fp16 gradients vanish unless the loss is scaled, '
            'which "fp16": {"enabled": true} does; write that, or "bf16" here'
        )


def _choose_optimizer(
    model: nn.Module, optimizer: Any, model_parameters: Iterable[Any] | None
) -> tuple[Groups, torch.optim.Optimizer | None]:
    client = None
    if optimizer is None or not isinstance(optimizer, torch.optim.Optimizer):
        groups = groups_of(model_parameters, model)
    if optimizer is not None:
        client = client_of(optimizer, [] if isinstance(optimizer, torch.optim.Optimizer) else groups)
        groups = client.param_groups
    check_group_members(groups, model)
    return groups, client


def _block(config: Config, client: torch.optim.Optimizer | None) -> dict[str, Any] | None:
    """The block that names a program's optimizer; None: the configuration's."""
    if client is not None:
        block = block_of(client)
        if block == _EXTERNAL:
            check_runnable(client, str(config.get("zero_optimization.offload_optimizer.device", "none")))
        return block
    if config.get("optimizer.type") == "External":
        raise ConfigError(
            'initialize: on "optimizer.type" ("External"): the optimizer that updates the parameters is missing: give '
            "a torch optimizer as `optimizer`"
        )
    return None


def _open(config: Config, parameters: list[Parameter], optimizer: dict[str, Any] | None) -> NativeEngine:
    device = device_of(parameters)
    kind = DeviceKind.CUDA if device.type == "cuda" else DeviceKind.HOST
    return NativeEngine(config.text, kind, device.index or 0, None if optimizer is None else json.dumps(optimizer))


def _register(native: NativeEngine, config: Config, parameters: list[Parameter]) -> GradientFlow:
    for parameter in parameters:
        parameter.register(native)
    return GradientFlow(native, int(config.get("gradient_accumulation_steps", 1)))


def _check_drive_budget(native: NativeEngine, config: Config, parameters: list[Parameter]) -> None:
    """What `zero.Init` has put on the drive is there until the store has it, so that nothing is lost by a failure."""
    budget = config.get("orlop.memory.nvme")
    waiting = bytes_on_drive(parameter.tensor for parameter in parameters)
    if budget is None or not waiting:
        return
    store = native.plan()["nvme_bytes"]
    if store + waiting > budget:
        raise NoSpaceError(
            f"initialize: on the budget orlop.memory.nvme ({budget} bytes): the store needs {store} bytes, and what "
            f"zero.Init has written, which is there until the store has it, {waiting}: {store + waiting - budget} "
            "bytes too many; raise the budget, or build the model in the type that it is to have "
            "(torch.set_default_dtype)"
        )


def _move_in(native: NativeEngine, parameters: list[Parameter], units: Units) -> None:
    units.take(parameters)
    for parameter in parameters:
        if not units.has(parameter):
            parameter.move_in(native)
    _heap.give_back()  # what they took before


def _scatter(model: nn.Module, config: Config, parameters: list[Parameter], units: Units) -> None:
    """Lets large parameters look empty between their uses, and all of them say where their values are."""
    units.scatter(_large(config, parameters))
    for tensor in model.parameters():
        if not units.is_of(tensor):
            mark_whole(tensor)


def _large(config: Config, parameters: list[Parameter]) -> list[Parameter]:
    """Those with values in memory that are not left there for being small, by the rule that the store follows, too."""
    small = int(config.get("zero_optimization.stage3_param_persistence_threshold"))
    room = int(config.get("zero_optimization.stage3_model_persistence_threshold"))
    large = []
    for parameter in parameters:
        if parameter.numel <= min(small, room):
            room -= parameter.numel
        elif parameter.address:
            large.append(parameter)
    return large


def _move_out(native: NativeEngine, parameters: list[Parameter], units: Units) -> None:
    """Undoes an initialization that failed: no tensor may be left without its values."""
    units.detach()
    units.move_out()
    for parameter in parameters:
        if (found := away(parameter.tensor)) is not None:
            found.forget_changes()
        elif parameter.address:
            parameter.move_out()
    native.close()


def _choose_scheduler(lr_scheduler: Any, optimizer: Optimizer) -> Any:
    if lr_scheduler is None:
        return None
    if not hasattr(lr_scheduler, "step"):
        lr_scheduler = lr_scheduler(optimizer)
    if not optimizer.owns_scheduler(lr_scheduler):
        raise ConfigError(
            f"initialize: on lr_scheduler {type(lr_scheduler).__name__}: it was made for another optimizer: give that "
            "as `optimizer`, or give a function that makes the scheduler"
        )
    return lr_scheduler


def _loader(config: Config, data: Any, collate_fn: Any) -> DataLoader[Any]:
    """Shuffled micro-batches of a dataset."""
    size = config.get("train_micro_batch_size_per_gpu")
    if size is None:
        raise ConfigError(
            "initialize: on training_data: the size of its batches is missing: write "
            '"train_micro_batch_size_per_gpu" into the configuration'
        )
    sampler: DistributedSampler[Any] | None = None
    if not isinstance(data, IterableDataset):
        sampler = DistributedSampler(data, num_replicas=1, rank=0, shuffle=True)
    return DataLoader(
        data,
        batch_size=size,
        sampler=sampler,
        collate_fn=collate_fn,
        drop_last=bool(config.get("dataloader_drop_last", False)),
    )
