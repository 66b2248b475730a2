"""The dtype in which a parameter's gradient is exchanged, as an attribute of the parameter."""

from __future__ import annotations

import pydoc

import torch
from orlop import ConfigError
from torch import nn

PARAM_COMM_DTYPE_ATTR_NAME = "comm_dtype"
LOWER_PRECISION_SAFE_MODULES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def has_comm_dtype(param: torch.nn.Parameter) -> bool:
    """Whether it is another than the parameter's own."""
    return hasattr(param, PARAM_COMM_DTYPE_ATTR_NAME)


def get_comm_dtype(param: torch.nn.Parameter) -> torch.dtype:
    """The parameter's own, unless it says otherwise."""
    dtype: torch.dtype = getattr(param, PARAM_COMM_DTYPE_ATTR_NAME, param.dtype)
    return dtype


def mark_comm_dtype(model: nn.Module, dtype: torch.dtype, names: list[str] | None) -> None:
    """Lets the parameters of modules that compute in a type under autocast be exchanged in it, too.

    names: the modules' classes, as "torch.nn.Linear"; by default LOWER_PRECISION_SAFE_MODULES.
    """
    classes = LOWER_PRECISION_SAFE_MODULES if names is None else tuple(_module_class(name) for name in names)
    for module in model.modules():
        if isinstance(module, classes):
            for parameter in module.parameters(recurse=False):
                setattr(parameter, PARAM_COMM_DTYPE_ATTR_NAME, dtype)


def _module_class(name: str) -> type[nn.Module]:
    found = pydoc.locate(name)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ConfigError(
            f'initialize: on "torch_autocast.lower_precision_safe_modules" ({name!r}): it is no class of modules: '
            'write its whole name, as in "torch.nn.Linear"'
        )
    return found
