"""The dtype in which a parameter's gradient is exchanged, as an attribute of the parameter."""

from __future__ import annotations

import torch

PARAM_COMM_DTYPE_ATTR_NAME = "comm_dtype"


def has_comm_dtype(param: torch.nn.Parameter) -> bool:
    """Whether it is another than the parameter's own."""
    return hasattr(param, PARAM_COMM_DTYPE_ATTR_NAME)


def get_comm_dtype(param: torch.nn.Parameter) -> torch.dtype:
    """The parameter's own, unless it says otherwise."""
    dtype: torch.dtype = getattr(param, PARAM_COMM_DTYPE_ATTR_NAME, param.dtype)
    return dtype
