"""`zero.Init` and what belongs to it, as DeepSpeed's users know them; the work is done by `orlop.zero`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from orlop import _init, zero
from orlop._partitioned import Ids
from orlop._units import EXTERNAL
from orlop.zero import GatheredParameters, ZeroParamStatus, register_external_parameter
from torch import Tensor, nn

from ... import comm
from ..._missing import refuse_unknown
from ...accelerator import get_accelerator

__all__ = [
    "GatheredParameters",
    "Init",
    "ZeroParamStatus",
    "get_accelerator",
    "is_zero_param",
    "partitioned_param_data_shape",
    "register_external_parameter",
    "restore_init_context",
    "shutdown_init_context",
    "unregister_external_parameter",
    "zero_wrapper_for_fp_tensor_constructor",
]

partitioned_param_data_shape = [0]
"""The shape of a parameter whose values are not in the model."""

_orig_torch_arange = torch.arange


class _Counting(type):
    """`Init.param_id`: the `ds_id` of the parameter that comes next."""

    @property
    def param_id(cls) -> int:
        return Ids.next

    @param_id.setter
    def param_id(cls, value: int) -> None:
        Ids.next = value


class Init(zero.Init, metaclass=_Counting):
    """`orlop.zero.Init`, with what DeepSpeed's does besides.

    It makes a process group if there is none, parameters look empty after the block wherever their values are, and
    without a configuration they become fp16. Values are those of building without it: no function of torch is replaced,
    and what an outer constructor does to the parameters of inner modules counts. So `tensor_overrides` has no effect.
    """

    scatters = True
    plain_dtype = torch.float16

    def __init__(self, *args: Any, tensor_overrides: Any = None, **kwargs: Any) -> None:
        if kwargs.get("enabled", True):
            comm.init_distributed()
        super().__init__(*args, **kwargs)


def zero_wrapper_for_fp_tensor_constructor(
    fn: Callable[..., Tensor], *_args: Any, **_kwargs: Any
) -> Callable[..., Tensor]:
    """The constructor itself: tensors made inside `Init` keep their types here, only parameters are converted."""
    return fn


def is_zero_param(parameter: Any) -> bool:
    """Whether a tensor is a parameter that need not be whole."""
    return isinstance(parameter, Tensor) and hasattr(parameter, "ds_id")


def unregister_external_parameter(module: nn.Module, parameter: Tensor) -> None:
    """Takes `register_external_parameter` back, before `initialize`."""
    if getattr(module, EXTERNAL, {}).pop(id(parameter), None) is None:
        raise RuntimeError(
            f"unregister_external_parameter: on a {type(module).__name__}: the parameter is not registered with it"
        )


_suspended = contextlib.ExitStack()


def shutdown_init_context() -> None:
    """Ends every block of `Init` for now: what has been built until now is complete."""
    _suspended.enter_context(_init.paused())


def restore_init_context() -> None:
    """Goes on with the blocks that `shutdown_init_context` ended."""
    _suspended.close()


__getattr__ = refuse_unknown(__name__)
