"""The systems that are compared: each trains the model it is given, in its worker's process.

Their modules import torch, DeepSpeed or Orlop; this one and their names do not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol

from ..setting import Case, Setting

if TYPE_CHECKING:
    from torch import Tensor, nn

ORLOP = "Orlop"
TORCH = "torch AdamW"
MAPPED = "mapped files"
DEFAULTS = "DeepSpeed, defaults"
TUNED = "DeepSpeed, tuned"
ALL = (TORCH, MAPPED, DEFAULTS, TUNED, ORLOP)
DEEPSPEED = (DEFAULTS, TUNED)

_MODULES = {
    TORCH: "torch_adamw",
    MAPPED: "mapped_files",
    DEFAULTS: "deepspeed_engine",
    TUNED: "deepspeed_engine",
    ORLOP: "orlop_engine",
}


class System(Protocol):
    """A training loop's calls, the three that are timed."""

    def forward(self, tokens: Tensor) -> Tensor: ...

    def backward(self, loss: Tensor) -> None: ...

    def step(self) -> None: ...

    def close(self) -> None: ...


def takes_part(system: str, case: Case) -> bool:
    """torch has no offload, and mapped files are states on the drive; the engines answer for themselves."""
    if system == TORCH:
        return case == case.in_memory
    if system == MAPPED:
        return case.optimizer == "nvme" and case.parameters == "none"
    return True


def start(setting: Setting, model: nn.Module) -> System:
    """The system around a model. What it raises is what stands in its cell."""
    module = importlib.import_module(f"{__name__}.{_MODULES[setting.system]}")
    system: System = module.start(setting, model)
    return system
