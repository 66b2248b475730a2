"""What one worker is to train with: passed to it as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from .shape import Shape

DEVICES = ("none", "cpu", "nvme")
PRECISIONS = ("bf16", "fp32")
LEARNING: dict[str, Any] = {"lr": 1e-4, "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1}
CLIPPING = 1.0


@dataclass(frozen=True)
class Case:
    """Where states and parameters live, and in which precision the model computes."""

    optimizer: str
    parameters: str
    precision: str

    def __str__(self) -> str:
        where = "device" if self.parameters == "none" else self.parameters
        return f"states {self.optimizer}, parameters {where}, {self.precision}"

    @property
    def in_memory(self) -> Case:
        """The same without any offload."""
        return Case("none", "none", self.precision)

    @property
    def uses_drive(self) -> bool:
        return "nvme" in (self.optimizer, self.parameters)


@dataclass(frozen=True)
class Tuning:
    """What is said to DeepSpeed beyond the case: parts of its configuration, and environment variables."""

    name: str = "defaults"
    config: dict[str, Any] = field(default_factory=dict)
    offload_optimizer: dict[str, Any] = field(default_factory=dict)
    zero: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """Everything that a worker needs to know."""

    system: str
    case: Case
    shape: Shape
    seed: int
    nvme_path: str
    tuning: Tuning = field(default_factory=Tuning)
    host_budget: int = 0
    """Bytes that Orlop may use; 0: what it needs."""

    def text(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def of(text: str) -> Setting:
        values = json.loads(text)
        parts = {"case": Case, "shape": Shape, "tuning": Tuning}
        return Setting(**{key: parts[key](**value) if key in parts else value for key, value in values.items()})


def configuration(setting: Setting) -> dict[str, Any]:
    """The one configuration that DeepSpeed and Orlop are given; DeepSpeed's tuning is laid over it."""
    case, tuning = setting.case, setting.tuning
    zero: dict[str, Any] = {"stage": 3, **tuning.zero}
    if case.optimizer != "none":
        zero["offload_optimizer"] = _place(case.optimizer, setting.nvme_path) | tuning.offload_optimizer
    if case.parameters != "none":
        zero["offload_param"] = _place(case.parameters, setting.nvme_path)
    precision = {"bf16": {"enabled": True}} if case.precision == "bf16" else {}
    budget = {"orlop": {"memory": {"host": setting.host_budget}}} if setting.host_budget else {}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_clipping": CLIPPING,
        "optimizer": {"type": "AdamW", "params": LEARNING},
        "zero_optimization": zero,
        **precision,
        **budget,
        **tuning.config,
    }


def _place(device: str, nvme_path: str) -> dict[str, Any]:
    return {"device": device} | ({"nvme_path": nvme_path} if device == "nvme" else {})
