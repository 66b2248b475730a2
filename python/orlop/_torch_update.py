"""Updates by a torch optimizer that the engine has no arithmetic for: by torch itself, in fp32, on the host.

The engine keeps masters and gradients, finds the norm and the loss scale, and leaves the update to the program
(`"type": "External"`). For the time of an update each parameter is its fp32 master and has its gradient in `grad`, as
the optimizer would find them without an engine; its own states stay with torch.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ._enums import DType, Plane
from ._native import NativeEngine
from ._parameters import Parameter
from .errors import InvalidArgumentError, OutOfOrderError, UnsupportedError
from .report import StepReport


def check_runnable(optimizer: torch.optim.Optimizer, offload_device: str) -> None:
    """Raises UnsupportedError, by name, for an optimizer that cannot be run so."""
    name = type(optimizer).__name__
    parameters = inspect.signature(type(optimizer).step).parameters
    if "closure" in parameters and parameters["closure"].default is inspect.Parameter.empty:
        raise UnsupportedError(
            f"initialize: on optimizer {name}: it calls the model several times per step (a closure), which an engine "
            "that takes each gradient once cannot serve; give torch.optim.AdamW"
        )
    if isinstance(optimizer, torch.optim.SparseAdam):
        raise UnsupportedError(f"initialize: on optimizer {name}: gradients are dense here; give torch.optim.AdamW")
    if offload_device == "nvme":
        raise UnsupportedError(
            f"initialize: on optimizer {name}: torch runs it, and keeps its states in host memory: write "
            '"offload_optimizer": {"device": "cpu"}, or give torch.optim.AdamW, Adam or Adagrad'
        )


class TorchUpdate:
    """The other half of an update whose norm, clipping and loss scale are the engine's."""

    def __init__(self, native: NativeEngine, parameters: list[Parameter], optimizer: torch.optim.Optimizer) -> None:
        self._native = native
        self._parameters = [parameter for parameter in parameters if not parameter.is_frozen]
        self._optimizer = optimizer

    def apply(self, report: StepReport) -> None:
        """Updates parameters and masters with the gradients the engine holds, then lets it forget them."""
        with self._lent(report.clip_factor / report.loss_scale):
            self._optimizer.step()
            for parameter in self._parameters:
                if parameter.tensor.data_ptr() != parameter.address:
                    parameter.write(self._native, Plane.MASTER, parameter.tensor)
        self._native.discard_gradients()

    @contextlib.contextmanager
    def _lent(self, grad_scale: float) -> Iterator[None]:
        """Parameters in fp32 on the host with their gradients; afterwards views of the engine's memory again."""
        own = [parameter.tensor.data for parameter in self._parameters]
        try:
            for parameter in self._parameters:
                gradient = self._gradient(parameter, grad_scale)
                if gradient is None:  # torch leaves such a parameter out
                    continue
                is_here = parameter.tensor.data_ptr() == parameter.address and parameter.tensor.device.type == "cpu"
                if parameter.dtype is not DType.F32 or not is_here:
                    parameter.tensor.data = parameter.read(self._native, Plane.MASTER, torch.float32)
                parameter.tensor.grad = gradient
            yield
        finally:
            for parameter, data in zip(self._parameters, own, strict=True):
                parameter.tensor.grad = None
                parameter.tensor.data = data

    def _gradient(self, parameter: Parameter, scale: float) -> Tensor | None:
        try:
            gradient = parameter.read(self._native, Plane.GRAD, torch.float32)
        except OutOfOrderError:  # none was taken since the last update
            return None
        return gradient if scale == 1 else gradient.mul_(scale)

    # ---- Checkpoints ----

    def state_of(self, tensor: Tensor) -> dict[str, Any]:
        """The optimizer's state of one parameter; empty before its first update."""
        state: dict[str, Any] = self._optimizer.state.get(tensor, {})
        return state

    def states(self) -> list[Any]:
        """The optimizer's state of each trainable parameter, in the engine's order."""
        return [self._optimizer.state.get(parameter.tensor, {}) for parameter in self._parameters]

    def set_states(self, saved: list[Any]) -> None:
        """Sets what `states` gave."""
        if len(saved) != len(self._parameters):
            raise InvalidArgumentError(
                f"load_checkpoint: on the optimizer's states: {len(saved)} parameters had some, this model has "
                f"{len(self._parameters)}"
            )
        self._optimizer.state.clear()
        for parameter, state in zip(self._parameters, saved, strict=True):
            if state:
                self._optimizer.state[parameter.tensor] = dict(state)
