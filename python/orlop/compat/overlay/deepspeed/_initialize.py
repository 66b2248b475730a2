"""deepspeed.initialize: from a model and a configuration to an engine that trains it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orlop
import torch
from orlop._init import paused
from orlop._initialize import build
from orlop.config import ConfigSource
from orlop.engine import open_engines
from torch import nn

from . import comm
from ._version import __version__
from .runtime import _choose_optimizer
from .runtime._engine_facts import local_rank_of
from .runtime.config import DeepSpeedConfig
from .runtime.engine import DeepSpeedEngine
from .runtime.torch_autocast import mark_comm_dtype
from .runtime.zero.parameter_offload import DeepSpeedZeRoOffload
from .runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
from .utils.logging import logger

Optimizers = torch.optim.Optimizer | Callable[[Any], torch.optim.Optimizer] | None


def initialize(
    args: Any = None,
    model: nn.Module | None = None,
    optimizer: Optimizers = None,
    model_parameters: Iterable[Any] | None = None,
    training_data: Any = None,
    lr_scheduler: Any = None,
    distributed_port: int | None = None,
    mpu: Any = None,
    dist_init_required: bool | None = None,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    config: ConfigSource | None = None,
    mesh_param: Any = None,
    config_params: ConfigSource | None = None,
) -> tuple[DeepSpeedEngine, Any, Any, Any]:
    """Orlop's `initialize` under DeepSpeed's signature: what it takes and does is said there.

    Without an optimizer, from the program or the configuration, the engine runs forward passes only, and None stands in
    the optimizer's place. An engine that has the model already is closed. The process group is made if there is none.

    Returns (engine, optimizer, loader or None, lr scheduler or None).
    """
    assert model is not None, "deepspeed.initialize requires a model"
    logger.info("DeepSpeed info: version=%s, which is Orlop %s under DeepSpeed's names", __version__, orlop.__version__)
    comm.init_distributed(dist_init_required=dist_init_required)
    checked = DeepSpeedConfig(_source(args, config, config_params), mpu)
    checked.check_for_engine()
    if checked.log_level is not None:
        logger.setLevel(checked.log_level.upper())
    raw = checked.given
    resolved = orlop.Config(_for_the_engine(raw))
    parameters = None if model_parameters is None else _listed(model_parameters)
    chosen = _optimizer(optimizer, parameters, raw, resolved)
    stage = resolved.get("zero_optimization.stage", 0)
    assert chosen is not None or stage in (0, 3), (
        f"zero stage {stage} requires an optimizer: give one, or name one in the configuration"
    )
    _check_scheduler(lr_scheduler, optimizer)
    _let_go_of(model)
    with paused():
        engine = build(DeepSpeedEngine, model, resolved, chosen, parameters, lr_scheduler, trains=chosen is not None)
    engine.raw_config, engine.local_rank = raw, local_rank_of(args)
    if isinstance(engine.optimizer, DeepSpeedZeroOptimizer_Stage3):
        engine.optimizer.parameter_offload = DeepSpeedZeRoOffload(engine)
    if resolved.get("torch_autocast.enabled"):
        mark_comm_dtype(model, torch.bfloat16, resolved.get("torch_autocast.lower_precision_safe_modules"))
    if training_data is not None:
        engine.training_dataloader = engine.deepspeed_io(training_data, collate_fn=collate_fn)
    return engine, engine.optimizer, engine.training_dataloader, engine.lr_scheduler


def _source(args: Any, config: Any, config_params: Any) -> Any:
    """The configuration, from wherever it was given."""
    given = (config, config_params, getattr(args, "deepspeed_config", None), getattr(args, "deepscale_config", None))
    source = next((source for source in given if source is not None), None)
    assert source is not None, "deepspeed.initialize requires a configuration: config=, or --deepspeed_config"
    return source


def _for_the_engine(raw: dict[str, Any]) -> dict[str, Any]:
    """The configuration without what is made here, and with what DeepSpeed means by it.

    The optimizer is handed over, of whatever class the block names. Without ZeRO every overflow halves the loss scale.
    """
    config = {name: value for name, value in raw.items() if name != "optimizer"}
    zero = raw.get("zero_optimization") or {}
    is_zero = bool(zero.get("stage", 0)) if isinstance(zero, dict) else bool(zero)
    if isinstance(raw.get("fp16"), dict) and not is_zero:
        config["fp16"] = raw["fp16"] | {"hysteresis": 1}
    return config


def _listed(model_parameters: Iterable[Any]) -> list[Any]:
    if isinstance(model_parameters, (torch.Tensor, dict)):
        return [model_parameters]
    return list(model_parameters)  # a generator can be gone through once


def _optimizer(
    optimizer: Optimizers, parameters: list[Any] | None, raw: dict[str, Any], config: orlop.Config
) -> Optimizers:
    """What makes the engine's optimizer, or is it; None: there is none."""
    if optimizer is None:
        return _choose_optimizer.configured(raw, config)
    if isinstance(optimizer, torch.optim.Optimizer):
        _choose_optimizer.check_client(optimizer, config)
        return optimizer
    make = optimizer

    def checked(groups: Any) -> torch.optim.Optimizer:
        made = make(groups if parameters is None else parameters)
        _choose_optimizer.check_client(made, config)
        return made

    return checked


def _check_scheduler(lr_scheduler: Any, optimizer: Optimizers) -> None:
    if lr_scheduler is None or callable(lr_scheduler):
        return
    assert isinstance(optimizer, torch.optim.Optimizer), (
        "initialize: on a scheduler object: it drives an optimizer object, which must be given, too; or give a "
        "function that makes the scheduler"
    )


def _let_go_of(model: nn.Module) -> None:
    """Closes the engine that a program has left a model to, so that another can have it."""
    tensors = {id(tensor) for tensor in model.parameters()}
    for engine in open_engines():
        if any(id(tensor) in tensors for tensor in engine.module.parameters()):
            logger.info("initialize: the engine that has this model is closed; its parameters keep their values")
            engine.close()
