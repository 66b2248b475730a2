"""Looking at, and setting, what the engine has of a parameter: its fp32 value, its gradient, its optimizer's states.

Whatever the stage, the precision and the tier. "full" is of the parameter's shape, "local" this rank's part of it,
flat. What a getter returns is an fp32 copy on the parameter's device; None where there is nothing of it: of a frozen
parameter, of one that no engine has, of a gradient that has not been made or that a step has used. Setters of such a
parameter do nothing. Each call reads or writes the store where the states are on NVMe, and blocks for it.

A gradient set between a backward pass and its step is the one that the step uses. It is kept in the parameter's type
unless several micro-batches are accumulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from orlop import InvalidArgumentError, OutOfOrderError
from orlop.engine import Engine, engine_of
from torch import Tensor, nn

__all__ = [
    "safe_get_full_fp32_param",
    "safe_get_full_grad",
    "safe_get_full_optimizer_state",
    "safe_get_local_fp32_param",
    "safe_get_local_grad",
    "safe_get_local_optimizer_state",
    "safe_set_full_fp32_param",
    "safe_set_full_grad",
    "safe_set_full_optimizer_state",
    "safe_set_local_fp32_param",
    "safe_set_local_grad",
    "safe_set_local_optimizer_state",
    "safe_update_full_grad_vectorized",
]

_STATES = ("exp_avg", "exp_avg_sq")
_OTHER_NAMES = {"sum": "exp_avg_sq"}  # of torch's Adagrad


def safe_get_full_fp32_param(param: nn.Parameter) -> Tensor | None:
    """The fp32 value that the optimizer updates."""
    return _get(param, "master")


def safe_get_full_grad(param: nn.Parameter) -> Tensor | None:
    """What has accumulated since the last update, without the loss scale."""
    return _get(param, "grad")


def safe_get_full_optimizer_state(param: nn.Parameter, optim_state_key: str) -> Tensor | None:
    """A state by its name: "exp_avg", "exp_avg_sq", or what a torch optimizer that torch runs calls it.

    Raises KeyError for a name that the optimizer does not have.
    """
    engine = _trained_by(param)
    if engine is None:
        return None
    plane = _plane_of(engine, optim_state_key)
    return _get(param, plane) if plane else _state_of(engine, param, optim_state_key)


def safe_set_full_fp32_param(param: nn.Parameter, value: Tensor) -> None:
    """Sets the fp32 value, and with it the parameter."""
    _set(param, "master", value)


def safe_set_full_grad(param: nn.Parameter, value: Tensor) -> None:
    """Sets the gradient that the next step uses."""
    _set(param, "grad", value)


def safe_set_full_optimizer_state(param: nn.Parameter, value: Tensor, optim_state_key: str) -> None:
    """Sets a state; of a torch optimizer that torch runs once it has been made, by the first update."""
    engine = _trained_by(param)
    if engine is None:
        return
    plane = _plane_of(engine, optim_state_key)
    if plane:
        _set(param, plane, value)
    elif (state := _state_of(engine, param, optim_state_key)) is not None:
        state.copy_(_shaped(engine, param, optim_state_key, value))


def safe_get_local_fp32_param(param: nn.Parameter) -> Tensor | None:
    """This rank's part of the fp32 value."""
    return _flat(safe_get_full_fp32_param(param))


def safe_get_local_grad(param: nn.Parameter) -> Tensor | None:
    """This rank's part of the gradient."""
    return _flat(safe_get_full_grad(param))


def safe_get_local_optimizer_state(param: nn.Parameter, optim_state_key: str) -> Tensor | None:
    """This rank's part of a state."""
    return _flat(safe_get_full_optimizer_state(param, optim_state_key))


def safe_set_local_fp32_param(param: nn.Parameter, value: Tensor) -> None:
    """Sets this rank's part of the fp32 value."""
    safe_set_full_fp32_param(param, value)


def safe_set_local_grad(param: nn.Parameter, value: Tensor) -> None:
    """Sets this rank's part of the gradient."""
    safe_set_full_grad(param, value)


def safe_set_local_optimizer_state(param: nn.Parameter, value: Tensor, optim_state_key: str) -> None:
    """Sets this rank's part of a state."""
    safe_set_full_optimizer_state(param, value, optim_state_key)


def safe_update_full_grad_vectorized(
    param_list: Iterable[nn.Parameter], update_func: Callable[[Tensor, nn.Parameter], Tensor]
) -> None:
    """Sets the gradient of each parameter that has one to `update_func(gradient, parameter)`."""
    for param in param_list:
        gradient = safe_get_full_grad(param)
        if gradient is not None:
            safe_set_full_grad(param, update_func(gradient, param))


def _trained_by(param: Any) -> Engine | None:
    engine = engine_of(param)
    return engine if engine is not None and not engine._find(param).is_frozen else None


def _plane_of(engine: Engine, key: str) -> str | None:
    """What the engine calls a state; None: its optimizer is one that torch runs."""
    if engine._torch_update is not None:
        return None
    name = _OTHER_NAMES.get(key, key)
    if name not in _STATES:
        raise KeyError(f"optimizer state {key!r}: must be one of {', '.join(_STATES)}")
    return name


def _state_of(engine: Engine, param: nn.Parameter, key: str) -> Any:
    """None before the first update."""
    assert engine._torch_update is not None
    state = engine._torch_update.state_of(param)
    if state and key not in state:
        raise KeyError(f"optimizer state {key!r}: must be one of {', '.join(state)}")
    return state.get(key)


def _get(param: nn.Parameter, plane: str) -> Tensor | None:
    engine = _trained_by(param)
    if engine is None:
        return None
    try:
        return engine.read_plane(param, plane).to(param.device)
    except OutOfOrderError:
        if plane != "grad" or not engine.is_open:
            raise
        return None  # none was taken since the last update


def _set(param: nn.Parameter, plane: str, value: Tensor) -> None:
    engine = _trained_by(param)
    if engine is None:
        return
    with torch.no_grad():
        engine.write_plane(param, plane, _shaped(engine, param, plane, value))


def _shaped(engine: Engine, param: nn.Parameter, what: str, value: Tensor) -> Tensor:
    shape = engine._find(param).shape
    if value.numel() != shape.numel():
        raise InvalidArgumentError(
            f"safe_set: on {what} of a parameter of shape {tuple(shape)}: {value.numel()} values are given: give "
            f"{shape.numel()}"
        )
    return value.detach().reshape(shape)


def _flat(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.flatten()
