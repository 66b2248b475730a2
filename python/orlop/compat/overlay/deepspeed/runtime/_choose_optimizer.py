"""Which torch optimizer an engine wraps: the program's, or one of the class that the configuration names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from orlop import Config, ConfigError

from ..ops.adagrad import DeepSpeedCPUAdagrad
from ..ops.adam import DeepSpeedCPUAdam, FusedAdam
from ..ops.lion import DeepSpeedCPULion, FusedLion
from .zero.utils import ZeRORuntimeException

Groups = list[dict[str, Any]]

_TESTED = (
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.Adagrad,
    FusedAdam,
    FusedLion,
    DeepSpeedCPUAdam,
    DeepSpeedCPUAdagrad,
    DeepSpeedCPULion,
)
_ON_HOST = (DeepSpeedCPUAdam, DeepSpeedCPUAdagrad, DeepSpeedCPULion)


def configured(raw: dict[str, Any], config: Config) -> Callable[[Groups], torch.optim.Optimizer] | None:
    """A function that makes the optimizer of the configuration's block from groups; None without a block."""
    block = raw.get("optimizer")
    if not block or not block.get("type"):
        return None
    params = dict(block.get("params") or {})
    if "max_grad_norm" in params:
        raise ConfigError(
            'initialize: on "optimizer.params.max_grad_norm": clipping covers all parameters together: write '
            '"gradient_clipping" beside "optimizer"'
        )
    make = _maker(str(block["type"]), params, _offloads(config))
    return lambda groups: make(groups, **params)


def check_client(optimizer: torch.optim.Optimizer, config: Config) -> None:
    """What DeepSpeed demands of a program's optimizer under ZeRO, unless the configuration says otherwise."""
    if not config.get("zero_optimization.stage"):
        return
    name = type(optimizer).__name__
    assert isinstance(optimizer, _TESTED) or config.get("zero_allow_untested_optimizer"), (
        f'You are using an untested ZeRO Optimizer: {name}. Please add <"zero_allow_untested_optimizer": true> in the '
        "configuration file to use it."
    )
    has_wide_states = isinstance(optimizer, _ON_HOST) and optimizer.fp32_optimizer_states
    assert not (has_wide_states and config.get("bf16.bf16_optimizer_states")), (
        f"bf16_optimizer_states is true, but the optimizer's are fp32: give {name}(fp32_optimizer_states=False)"
    )
    if _offloads(config) and not isinstance(optimizer, _ON_HOST) and config.get("zero_force_ds_cpu_optimizer", True):
        raise ZeRORuntimeException(
            f"initialize: on optimizer {name}: with offload_optimizer DeepSpeed wants its own host optimizer: give "
            'deepspeed.ops.adam.DeepSpeedCPUAdam, or write "zero_force_ds_cpu_optimizer": false: it is the same here'
        )


def _offloads(config: Config) -> bool:
    return bool(config.get("zero_optimization.offload_optimizer.device", "none") != "none")


def _maker(name: str, params: dict[str, Any], offloads: bool) -> Callable[..., torch.optim.Optimizer]:
    """The class by DeepSpeed's table; takes out of `params` what has chosen it."""
    kind = name.lower()
    if kind in ("adam", "adamw"):
        return _adam(kind, params, offloads)
    if kind == "adagrad":
        return DeepSpeedCPUAdagrad if offloads else torch.optim.Adagrad
    if kind == "lion":
        return DeepSpeedCPULion if offloads else FusedLion
    found = getattr(torch.optim, name, None)
    if not (isinstance(found, type) and issubclass(found, torch.optim.Optimizer)):
        raise ConfigError(
            f'initialize: on "optimizer.type" ("{name}"): there is none of that name: write Adam, AdamW, Adagrad, Lion '
            "or the name of a class of torch.optim"
        )
    return found


def _adam(kind: str, params: dict[str, Any], offloads: bool) -> Callable[..., torch.optim.Optimizer]:
    is_decoupled = bool(params.pop("adam_w_mode", params.pop("adamw_mode", True))) or kind == "adamw"
    if params.pop("torch_adam", False):
        params.pop("bias_correction", None)
        return torch.optim.AdamW if is_decoupled else torch.optim.Adam
    name = "adamw_mode" if offloads else "adam_w_mode"
    params[name] = is_decoupled
    for option in ("foreach", "fused", "capturable", "differentiable"):  # which of torch's kernels: none of them
        params.pop(option, None)
    return DeepSpeedCPUAdam if offloads else FusedAdam
