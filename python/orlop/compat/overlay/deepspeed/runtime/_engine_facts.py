"""What an engine says of its configuration and its place among ranks, by DeepSpeed's names."""

from __future__ import annotations

import os
from typing import Any

from orlop import Engine

from .. import comm
from .base_optimizer import DeepSpeedOptimizer


class EngineFacts(Engine):
    """Getters; what they say is what the engine goes by."""

    raw_config: dict[str, Any]

    def setting(self, path: str, default: Any = None) -> Any:
        """What a key of the configuration has come to, by its path as in "fp16.loss_scale_window"."""
        return self._config.get(path, default)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as it was given."""
        return self.raw_config

    # ---- Ranks ----

    @property
    def global_rank(self) -> int:
        """This rank among all."""
        return comm.get_rank()

    @property
    def world_size(self) -> int:
        """How many ranks there are."""
        return comm.get_world_size()

    @property
    def dp_world_size(self) -> int:
        """How many ranks have other data."""
        return comm.get_world_size()

    # ---- Precision ----

    def needs_scaler(self) -> bool:
        """Whether a loss must go through `scale` or `backward`: in fp16."""
        return self.fp16_enabled()

    def dynamic_loss_scale(self) -> bool:
        """Whether the loss scale changes."""
        return self.fp16_enabled() and self.setting("fp16.loss_scale") == 0

    def fp16_auto_cast(self) -> bool:
        """Whether floating-point inputs become fp16."""
        return bool(self.setting("fp16.auto_cast"))

    # ---- ZeRO ----

    def zero_optimization(self) -> bool:
        """Whether ZeRO is on."""
        return self.zero_optimization_stage() > 0

    def zero_optimization_partition_gradients(self) -> bool:
        """Whether gradients are sharded: from stage 2 on."""
        return self.zero_optimization_stage() >= 2

    def zero_optimization_partition_weights(self) -> bool:
        """Whether parameters are sharded: in stage 3."""
        return self.zero_optimization_stage() == 3

    def zero_cpu_offload(self) -> bool:
        """Whether optimizer states are in host memory because the configuration says so."""
        return bool(self.setting("zero_optimization.offload_optimizer.device", "none") == "cpu")

    def zero_gather_16bit_weights_on_model_save(self) -> bool:
        """Whether stage 3 is to save whole 16-bit weights."""
        return bool(self.setting("zero_optimization.stage3_gather_16bit_weights_on_model_save"))

    # ---- Optimizer ----

    @property
    def basic_optimizer(self) -> Any:
        """The torch optimizer that the engine's is made from; None without one."""
        return self._optimizer.optimizer if isinstance(self._optimizer, DeepSpeedOptimizer) else None

    def optimizer_name(self) -> str | None:
        """The configured optimizer's name in lower case; None when the program gave one."""
        name = (self.raw_config.get("optimizer") or {}).get("type")
        return None if name is None else str(name).lower()

    def scheduler_name(self) -> str | None:
        """The configured scheduler's name."""
        return (self.raw_config.get("scheduler") or {}).get("type")

    def get_mom(self) -> list[Any]:
        """Each group's betas, or its momentum."""
        return [group.get("betas", group.get("momentum")) for group in self._optimizer.param_groups]

    def set_lr(self, lr: float) -> None:
        """Sets every group's learning rate."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr

    # ---- Seeing ----

    def steps_per_print(self) -> Any:
        """Updates between lines of progress."""
        return self.setting("steps_per_print")

    def wall_clock_breakdown(self) -> bool:
        """Whether these lines have the times of a step's parts."""
        return bool(self.setting("wall_clock_breakdown"))

    def log_level(self) -> str | None:
        """What the configuration says of the log's level."""
        return self.raw_config.get("log_level")

    def dump_state(self) -> bool:
        """Whether initialize prints the configuration."""
        return bool(self.setting("dump_state"))


def local_rank_of(args: Any) -> int:
    """This rank on its machine: a launcher's argument, else its variable."""
    given = getattr(args, "local_rank", None)
    return int(given) if given is not None and int(given) >= 0 else int(os.environ.get("LOCAL_RANK", "0"))
