"""What programs take off a model to generate with it as it is, and put back for training (TRL does)."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, cast

from orlop import Engine
from orlop._units import EXTERNAL
from torch import Tensor, nn

from ..._missing import refuse_unknown

__all__ = ["DeepSpeedZeRoOffload"]


class DeepSpeedZeRoOffload:
    """The hooks that bring parameters: `engine.optimizer.parameter_offload` under stage 3.

    Take off what is in `forward_hooks` inside `GatheredParameters(model.parameters())` only, and put them back with
    `_register_deepspeed_module`. Backward passes have hooks of their own in each forward, and none that could stay.
    """

    def __init__(self, engine: Engine) -> None:
        self.module = cast(Any, engine.module)
        self._units = engine._units
        self.forward_hooks: list[Any] = list(self._units._handles)
        self.backward_hooks: list[Any] = []
        self.module.ds_external_parameters = functools.partial(_external, self.module)
        for parameter in self.module.parameters():
            parameter.ds_active_sub_modules = set()  # for clearing: the engine counts uses itself

    def _register_deepspeed_module(self, module: nn.Module) -> None:
        self.forward_hooks = self._units.attach_hooks()


def _external(module: nn.Module) -> Iterable[tuple[int, Tensor]]:
    """Parameters of other modules that a module uses, by id."""
    found: dict[int, Tensor] = getattr(module, EXTERNAL, {})
    return found.items()


__getattr__ = refuse_unknown(__name__)
