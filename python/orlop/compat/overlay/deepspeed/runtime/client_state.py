"""A `client_state` of any Python objects in a checkpoint that holds JSON values and tensors alone."""

from __future__ import annotations

import io
from typing import Any

import torch
from orlop._client_state import encode
from orlop.errors import InvalidArgumentError

from ..utils.logging import logger

_PICKLED = "deepspeed.client_state"


def portable(client_state: dict[str, Any] | None) -> dict[str, Any]:
    """What an engine can save: the state itself or, if there are other objects in it, its bytes as torch saves it."""
    state = {} if client_state is None else client_state
    try:
        encode(state, {}, "client_state")
    except InvalidArgumentError as error:
        logger.info("%s: the whole client_state is pickled, and loading it runs what is in there", error)
        return {_PICKLED: _pickled(state)}
    return state


def _pickled(state: dict[str, Any]) -> torch.Tensor:
    file = io.BytesIO()
    torch.save(state, file)
    return torch.frombuffer(bytearray(file.getbuffer()), dtype=torch.uint8)


def original(saved: dict[str, Any]) -> dict[str, Any]:
    """What `portable` was given."""
    if _PICKLED not in saved:
        return saved
    state: dict[str, Any] = torch.load(
        io.BytesIO(saved[_PICKLED].numpy().tobytes()), map_location="cpu", weights_only=False
    )
    return state
