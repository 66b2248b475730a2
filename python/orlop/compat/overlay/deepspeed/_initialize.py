"""deepspeed.initialize: from a model and a configuration to an engine that trains it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import orlop
import torch
from orlop._initialize import build, loader_of
from orlop.config import ConfigSource
from orlop.engine import open_engines
from torch import nn

from ._version import __version__
from .runtime.config import DeepSpeedConfig
from .runtime.engine import DeepSpeedEngine
from .utils.logging import logger


def initialize(
    args: Any = None,
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | Callable[[Any], torch.optim.Optimizer] | None = None,
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
    """Orlop's `initialize` under DeepSpeed's signature.

    Returns (engine, optimizer, loader or None, lr scheduler or None). An engine that has the model already is closed.
    """
    assert model is not None, "deepspeed.initialize requires a model"
    logger.info("DeepSpeed info: version=%s, which is Orlop %s under DeepSpeed's names", __version__, orlop.__version__)
    raw = _raw_config(args, config, config_params)
    resolved = orlop.Config(raw)
    _let_go_of(model)
    engine = build(DeepSpeedEngine, model, resolved, optimizer, model_parameters, lr_scheduler)
    engine.raw_config = raw
    if training_data is not None:
        engine.training_dataloader = loader_of(resolved, training_data, collate_fn)
    return engine, engine.optimizer, engine.training_dataloader, engine.lr_scheduler


def _raw_config(args: Any, config: Any, config_params: Any) -> dict[str, Any]:
    """The configuration as it was given, checked as DeepSpeed checks it."""
    source = next(
        (given for given in (config, config_params, getattr(args, "deepspeed_config", None)) if given is not None), None
    )
    assert source is not None, "deepspeed.initialize requires a configuration: config=, or --deepspeed_config"
    settings = DeepSpeedConfig(source)
    settings.check_for_engine()
    if settings.log_level is not None:
        logger.setLevel(settings.log_level.upper())
    return settings.given


def _let_go_of(model: nn.Module) -> None:
    """Closes the engine that a program has left a model to, so that another can have it."""
    tensors = {id(tensor) for tensor in model.parameters()}
    for engine in open_engines():
        if any(id(tensor) in tensors for tensor in engine.module.parameters()):
            logger.info("initialize: the engine that has this model is closed; its parameters keep their values")
            engine.close()
