"""Which accelerator this process has."""

from __future__ import annotations

import os

import torch

from .abstract_accelerator import DeepSpeedAccelerator
from .cpu_accelerator import CPU_Accelerator
from .cuda_accelerator import CUDA_Accelerator

_CLASSES: dict[str, type[DeepSpeedAccelerator]] = {"cpu": CPU_Accelerator, "cuda": CUDA_Accelerator}

_chosen: DeepSpeedAccelerator | None = None


def get_accelerator() -> DeepSpeedAccelerator:
    """This process's accelerator, always the same object.

    The environment's DS_ACCELERATOR names it; without, it is the GPU where torch can use one, else the processor.
    """
    global _chosen
    if _chosen is None:
        _chosen = _CLASSES[_wanted()]()
    return _chosen


def set_accelerator(accelerator: DeepSpeedAccelerator) -> None:
    """Takes another object from now on."""
    global _chosen
    _chosen = accelerator


def is_current_accelerator_supported() -> bool:
    """Whether it is one that Orlop trains on."""
    return get_accelerator()._name in _CLASSES


def _wanted() -> str:
    named = os.environ.get("DS_ACCELERATOR")
    if named is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if named not in _CLASSES:
        raise ValueError(f'DS_ACCELERATOR: "{named}": must be one of {", ".join(_CLASSES)}, which Orlop trains on')
    if named == "cuda" and not torch.cuda.is_available():
        raise ValueError("DS_ACCELERATOR: cuda: torch finds no GPU that it can use; leave it out, or write cpu")
    return named
