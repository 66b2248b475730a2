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
MATCHED = "Orlop, DeepSpeed's memory"
TORCH = "torch AdamW"
MAPPED = "mapped files"
DEFAULTS = "DeepSpeed, defaults"
TUNED = "DeepSpeed, tuned"
ALL = (TORCH, MAPPED, DEFAULTS, TUNED, ORLOP, MATCHED)
DEEPSPEED = (DEFAULTS, TUNED)

_MODULES = {
    TORCH: "torch_adamw",
    MAPPED: "mapped_files",
    DEFAULTS: "deepspeed_engine",
    TUNED: "deepspeed_engine",
    ORLOP: "orlop_engine",
    MATCHED: "orlop_engine",
}


class System(Protocol):
    """A training loop's calls, the three that are timed."""

    def forward(self, tokens: Tensor) -> Tensor: ...

    def backward(self, loss: Tensor) -> None: ...

    def step(self) -> None: ...

    def close(self) -> None: ...


def takes_part(system: str, case: Case) -> bool:
    """torch has no offload, mapped files are states on the drive, and more memory is of use where a drive is used; the
    engines answer for themselves."""
    if system == TORCH:
        return case == case.in_memory
    if system == MAPPED:
        return case.optimizer == "nvme" and case.parameters == "none"
    return system != MATCHED or case.uses_drive


def start(setting: Setting, model: nn.Module) -> System:
    """The system around a model. What it raises is what stands in its cell."""
    module = importlib.import_module(f"{__name__}.{_MODULES[setting.system]}")
    system: System = module.start(setting, model)
    return system
