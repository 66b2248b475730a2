"""DeepSpeed's engine: Orlop's, with the names and habits that programs written for DeepSpeed rely on."""

from __future__ import annotations

from typing import Any

from orlop import Config, Engine, Optimizer, UnsupportedError
from torch import Tensor

from .base_optimizer import DeepSpeedOptimizer
from .zero.stage3 import DeepSpeedZeroOptimizer_Stage3
from .zero.stage_1_and_2 import DeepSpeedZeroOptimizer

_OPTIMIZERS: dict[int, type[Optimizer]] = {
    0: DeepSpeedOptimizer,
    1: DeepSpeedZeroOptimizer,
    2: DeepSpeedZeroOptimizer,
    3: DeepSpeedZeroOptimizer_Stage3,
}


class DeepSpeedEngine(Engine):
    """A model that trains on the Orlop engine, used as DeepSpeed's is."""

    raw_config: dict[str, Any]

    @classmethod
    def optimizer_class(cls, config: Config) -> type[Optimizer]:
        """The class by ZeRO's stage."""
        return _OPTIMIZERS[int(config.get("zero_optimization.stage", 0))]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as it was given."""
        return self.raw_config

    def set_gradient_accumulation_boundary(self, is_boundary: bool) -> None:
        """Says whether the next backward pass is the last before an update."""
        if bool(is_boundary) != (self._flow.backwards == self.gradient_accumulation_steps() - 1):
            raise UnsupportedError(
                f"set_gradient_accumulation_boundary({is_boundary}): on micro-batch {self.micro_steps + 1}: "
                f"gradient_accumulation_steps ({self.gradient_accumulation_steps()}) says otherwise"
            )

    def backward(self, loss: Tensor, retain_graph: bool = False, scale_wrt_gas: bool = True) -> Tensor:
        """As Orlop's; a step that a program leaves out between two micro-batches is made up for."""
        if self._flow.backwards and not self._flow.is_update_due:
            self.micro_steps = self._micro_steps_done()
        return super().backward(loss, retain_graph, scale_wrt_gas)

    def _update(self, lr_kwargs: dict[str, Any]) -> None:
        super()._update(lr_kwargs)
        if isinstance(self.optimizer, DeepSpeedOptimizer):
            self.optimizer.overflow = not self._step_applied
