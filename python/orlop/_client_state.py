"""Values in a checkpoint that are not the engine's: JSON, with tensors in a safetensors file beside it. No pickle."""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from torch import Tensor

from .errors import InvalidArgumentError

_KIND = "$orlop"  # marks what JSON has no notation for


def encode(value: Any, tensors: dict[str, Tensor], path: str) -> Any:
    """`value` as JSON; tensors and arrays in it go to `tensors` under their paths.

    Known are None, booleans, numbers, strings, lists, tuples, dicts, bytes, torch.Size, torch.dtype, tensors, and
    numpy's arrays and numbers. Raises InvalidArgumentError with the path of anything else.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, Tensor):
        return {_KIND: "tensor", "name": _add(tensors, path, value.detach())}
    if type(value) is float:
        return value if math.isfinite(value) else {_KIND: "float", "value": repr(value)}
    if type(value) is list:
        return [encode(item, tensors, f"{path}.{index}") for index, item in enumerate(value)]
    if isinstance(value, tuple):
        kind = "size" if isinstance(value, torch.Size) else "tuple"
        return {_KIND: kind, "items": [encode(item, tensors, f"{path}.{index}") for index, item in enumerate(value)]}
    if isinstance(value, dict):
        return _encode_dict(value, tensors, path)
    if isinstance(value, bytes):
        return {_KIND: "bytes", "value": value.hex()}
    if isinstance(value, torch.dtype):
        return {_KIND: "dtype", "value": str(value).removeprefix("torch.")}
    return _encode_number(value, tensors, path)


def _add(tensors: dict[str, Tensor], path: str, tensor: Tensor) -> str:
    """A name for it: its path, with a number behind it where keys with dots have made that another's."""
    name, number = path, 1
    while name in tensors:
        number += 1
        name = f"{path}#{number}"
    tensors[name] = tensor
    return name


def _encode_dict(value: dict[Any, Any], tensors: dict[str, Tensor], path: str) -> Any:
    if all(type(key) is str for key in value) and _KIND not in value:
        return {key: encode(item, tensors, f"{path}.{key}") for key, item in value.items()}
    pairs = [
        [encode(key, tensors, f"{path}.key{index}"), encode(item, tensors, f"{path}.{index}")]
        for index, (key, item) in enumerate(value.items())
    ]
    return {_KIND: "dict", "pairs": pairs}


def _encode_number(value: Any, tensors: dict[str, Tensor], path: str) -> Any:
    kind = type(value).__module__.partition(".")[0]
    if kind == "numpy" and hasattr(value, "ndim"):
        array = torch.as_tensor(value)
        if value.ndim:
            return {_KIND: "array", "name": _add(tensors, path, array)}
        return encode(value.item(), tensors, path)
    if isinstance(value, (bool, int, float, str)):  # of a subclass: its value
        return encode(json.loads(json.dumps(value)), tensors, path)
    raise InvalidArgumentError(
        f"save_checkpoint: on {path}: a {type(value).__name__} has no place in a checkpoint, which holds JSON values "
        "and tensors; give its state_dict()"
    )


def decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The value that `encode` was given."""
    if isinstance(value, list):
        return [decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(_KIND)
    if kind is None:
        return {key: decode(item, tensors) for key, item in value.items()}
    if kind == "tensor":
        return tensors[value["name"]]
    if kind == "array":
        return tensors[value["name"]].numpy()
    if kind == "dict":
        return {decode(key, tensors): decode(item, tensors) for key, item in value["pairs"]}
    if kind in ("tuple", "size"):
        items = [decode(item, tensors) for item in value["items"]]
        return torch.Size(items) if kind == "size" else tuple(items)
    decoders: dict[str, Any] = {
        "float": float,
        "bytes": bytes.fromhex,
        "dtype": lambda name: getattr(torch, name),
    }
    return decoders[kind](value["value"])
