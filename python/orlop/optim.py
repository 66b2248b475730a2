"""Adam, Adagrad and Lion over tensors of torch's in host memory, by the engine's kernels and without an engine.

They are used like torch's own, and may be given to `initialize`, which then runs them where the states are. States are
in `state`: "step" (an int), and the moments that the optimizer has.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor

from ._abi import GroupParams, sized
from ._dtypes import DTYPES
from ._enums import OptimizerKind
from ._native import TensorUpdate, update_tensors
from .errors import InvalidArgumentError, UnsupportedError

REFUSED_OPTIONS = ("amsgrad", "maximize", "differentiable")
"""Options of torch's Adam that change the arithmetic in a way that the kernels do not know."""


def check_options(index: int, group: dict[str, Any]) -> None:
    """Raises UnsupportedError for a parameter group with an option that the kernels do not know."""
    for option in REFUSED_OPTIONS:
        if group.get(option):
            raise UnsupportedError(f"optimizer: on {option} of group {index}: not supported; leave it False")


class HostOptimizer(torch.optim.Optimizer):
    """What the three have in common.

    Parameters may be float32, bfloat16 or float16, gradients any of these. A 16-bit parameter is what its update,
    computed in float32, is rounded to. With `fp32_states` false its moments are kept and rounded like it, in half the
    memory. `step` runs on every processor the process may use and skips parameters without a gradient.
    """

    kind: OptimizerKind
    moments: tuple[str, ...]
    decoupled = False
    """Whether weight decay shrinks the parameter beside the update (AdamW, Lion) or is added to the gradient."""
    takes_sparse = False

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any], fp32_states: bool) -> None:
        for name in ("lr", "eps", "weight_decay", "lr_decay"):
            if not defaults.get(name, 0.0) >= 0:
                raise InvalidArgumentError(f"optimizer: on {name} ({defaults[name]}): must be at least 0")
        self.fp32_states = fp32_states
        super().__init__(params, defaults)

    def block(self) -> dict[str, Any]:
        """The "optimizer" block of a configuration that names the same optimizer; groups have its values."""
        name, params = self._type_and_params()
        return {"type": name, "params": params | ({} if self.fp32_states else {"fp32_optimizer_states": False})}

    def _type_and_params(self) -> tuple[str, dict[str, Any]]:
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates every parameter that has a gradient; returns what `closure` does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        due = [[p for p in group["params"] if p.grad is not None and p.numel()] for group in self.param_groups]
        self._check(due)
        for group, parameters in zip(self.param_groups, due, strict=True):
            updates = [self._update(parameter) for parameter in parameters]
            update_tensors(self._group_params(group), [update.tensor() for update in updates if update.count])
            for update in updates:
                update.complete()
        return loss

    def _check(self, due: list[list[Tensor]]) -> None:
        """Raises for what cannot be updated, before anything is."""
        for index, (group, parameters) in enumerate(zip(self.param_groups, due, strict=True)):
            check_options(index, group)
            for parameter in parameters:
                self.check_parameter(parameter)

    def check_parameter(self, parameter: Tensor) -> None:
        """Raises UnsupportedError for one that the kernels cannot update."""
        if parameter.device.type != "cpu":
            raise UnsupportedError(
                f"optimizer: on a parameter on {parameter.device}: it updates tensors in host memory: give it to "
                "initialize, or use torch.optim.AdamW"
            )
        if parameter.dtype not in DTYPES:
            raise UnsupportedError(
                f"optimizer: on a parameter of {str(parameter.dtype).removeprefix('torch.')}: parameters can be "
                "float32, bfloat16 or float16; convert the model first"
            )
        if parameter.grad is not None and parameter.grad.is_sparse and not self.takes_sparse:
            raise UnsupportedError(
                f"optimizer: on a sparse gradient of shape {tuple(parameter.shape)}: gradients are dense here; make "
                "the embedding with sparse=False, or use Adagrad"
            )

    def _update(self, parameter: Tensor) -> _Update:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state.update(self._first_moments(parameter))
        return _Update(parameter, state)

    def _first_moments(self, parameter: Tensor) -> dict[str, Tensor]:
        return {name: self._moment(parameter) for name in self.moments}

    def _moment(self, parameter: Tensor, value: float = 0.0) -> Tensor:
        dtype = torch.float32 if self.fp32_states else parameter.dtype
        return torch.full(parameter.shape, value, dtype=dtype)

    def _group_params(self, group: dict[str, Any]) -> GroupParams:
        params: GroupParams = sized(GroupParams)
        params.optimizer, params.decoupled_weight_decay = self.kind, int(self.decoupled)
        params.lr, params.weight_decay = float(group["lr"]), float(group["weight_decay"])
        params.beta1, params.beta2 = group.get("betas", (0.0, 0.0))
        params.eps, params.lr_decay = group.get("eps", 0.0), group.get("lr_decay", 0.0)
        params.bias_correction = int(group.get("bias_correction", True))
        return params

    def __getstate__(self) -> dict[str, Any]:
        """For copies: torch leaves out what is neither state nor group."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, but all is copied, and moments keep their type: torch rounds them to the parameter's."""
        super().load_state_dict(state_dict)
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for number, parameter in zip(numbers, parameters, strict=True):
            saved = state_dict["state"].get(number, {})
            moments = {name: self._moment(parameter).copy_(saved[name]) for name in self.moments if name in saved}
            if saved:
                self.state[parameter].update(moments, step=int(saved["step"]))


class _Update:
    """One parameter's update: contiguous arrays, copies where the tensors are not."""

    def __init__(self, parameter: Tensor, state: dict[str, Any]) -> None:
        gradient = cast(Tensor, parameter.grad)
        self._rows: Tensor | None = None
        if gradient.is_sparse:
            gradient = gradient.coalesce()
            self._rows = gradient.indices()[0]
            gradient = gradient.values()
        self._state = state
        self._copies: list[tuple[Tensor, Tensor]] = []
        self._gradient = gradient.contiguous()
        self._parameter = self._array(parameter.data)
        self._moments = {name: self._array(state[name]) for name in ("exp_avg", "exp_avg_sq") if name in state}
        self.count = self._gradient.numel()

    def _array(self, tensor: Tensor) -> Tensor:
        array = (tensor if self._rows is None else tensor[self._rows]).contiguous()
        if array is not tensor:
            self._copies.append((tensor, array))
        return array

    def tensor(self) -> TensorUpdate:
        """What the library is to update."""
        addresses = {name: moment.data_ptr() for name, moment in self._moments.items()}
        return TensorUpdate(
            param_dtype=DTYPES[self._parameter.dtype],
            grad_dtype=DTYPES[self._gradient.dtype],
            state_dtype=DTYPES[next(iter(self._moments.values())).dtype],
            numel=self.count,
            param=self._parameter.data_ptr(),
            grad=self._gradient.data_ptr(),
            exp_avg=addresses.get("exp_avg"),
            exp_avg_sq=addresses.get("exp_avg_sq"),
            step=int(self._state["step"]) + 1,
        )

    def complete(self) -> None:
        """Counts the update, and writes copies back."""
        self._state["step"] = int(self._state["step"]) + 1
        for tensor, array in self._copies:
            if self._rows is None:
                tensor.copy_(array)
            else:
                tensor[self._rows] = array


class Adam(HostOptimizer):
    """Adam (Kingma & Ba 2015), with decoupled weight decay AdamW (Loshchilov & Hutter 2019)."""

    kind = OptimizerKind.ADAM
    moments = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        decoupled: bool = True,
        bias_correction: bool = True,
        fp32_states: bool = True,
    ) -> None:
        self.decoupled = decoupled
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
        }
        super().__init__(params, defaults, fp32_states)

    def _type_and_params(self) -> tuple[str, dict[str, Any]]:
        return ("AdamW", {}) if self.decoupled else ("Adam", {"adam_w_mode": False})


class Adagrad(HostOptimizer):
    """Adagrad (Duchi, Hazan & Singer 2011). Of a sparse gradient it updates the rows that it has."""

    kind = OptimizerKind.ADAGRAD
    moments = ("exp_avg_sq",)
    takes_sparse = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        *,
        lr_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        fp32_states: bool = True,
    ) -> None:
        self.initial_accumulator_value = initial_accumulator_value
        defaults = {"lr": lr, "eps": eps, "weight_decay": weight_decay, "lr_decay": lr_decay}
        super().__init__(params, defaults, fp32_states)

    def _type_and_params(self) -> tuple[str, dict[str, Any]]:
        return "Adagrad", {"initial_accumulator_value": self.initial_accumulator_value}

    def _first_moments(self, parameter: Tensor) -> dict[str, Tensor]:
        return {"exp_avg_sq": self._moment(parameter, self.initial_accumulator_value)}


class Lion(HostOptimizer):
    """Lion (Chen et al. 2023): steps of one length, in the direction of the sign of a moment."""

    kind = OptimizerKind.LION
    moments = ("exp_avg",)
    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        fp32_states: bool = True,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay}, fp32_states)

    def _type_and_params(self) -> tuple[str, dict[str, Any]]:
        return "Lion", {}


def block_of(optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """The configuration's block of one of ours; None for others, also for a class that has a `step` of its own."""
    if isinstance(optimizer, HostOptimizer) and _step_of(type(optimizer)) is _step_of(HostOptimizer):
        return optimizer.block()
    return None


def _step_of(optimizer_class: type[torch.optim.Optimizer]) -> Any:
    return inspect.unwrap(optimizer_class.step)  # torch wraps it, class by class
