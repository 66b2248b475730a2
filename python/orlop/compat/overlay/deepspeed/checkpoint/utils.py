"""Helpers of programs that save and load checkpoints themselves."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor


def get_model_ckpt_name_for_rank(base_folder: str | os.PathLike[str], mp_rank_str: str) -> str:
    """The path of the file with the model's state that a rank of model parallelism has written."""
    return os.path.join(base_folder, f"mp_rank_{mp_rank_str}_model_states.pt")


def clone_tensors_for_torch_save(item: Any, device: torch.device | str = "cpu") -> Any:
    """A copy of nested dicts, lists and tuples in which every tensor has memory of its own size, on a device.

    torch.save writes the whole memory that a tensor is a view of, however little of it that shows.
    """
    if isinstance(item, Tensor):
        return item.detach().clone().to(device)
    if isinstance(item, dict):
        return type(item)((name, clone_tensors_for_torch_save(value, device)) for name, value in item.items())
    if isinstance(item, (list, tuple)):
        return type(item)(clone_tensors_for_torch_save(value, device) for value in item)
    return item
