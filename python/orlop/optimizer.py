"""The optimizer that `initialize` returns: parameter groups as torch has them, states as the engine has them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, cast

import torch
from torch import nn

from . import optim
from ._abi import GroupParams, sized
from ._enums import OptimizerKind
from ._hooks import GradientFlow
from ._native import NativeEngine
from .errors import ConfigError, InvalidArgumentError, OutOfOrderError, UnsupportedError

Groups = list[dict[str, Any]]


def _refuse_step() -> NoReturn:
    raise OutOfOrderError("optimizer.step: the engine holds the gradients and states: call engine.step() instead")


class Optimizer(torch.optim.Optimizer):
    """AdamW, Adam, Adagrad or Lion, run by the engine where the states are; or another of torch's, which torch runs.

    `param_groups` are torch's: what a learning-rate scheduler writes into them (lr, betas, eps, weight_decay) is used
    by the next update. Updates happen in `engine.step()`. The engine's states are not in `state`; `engine.read_plane`
    reads them.
    """

    def __init__(self, native: NativeEngine, flow: GradientFlow, groups: Groups, client: torch.optim.Optimizer | None):
        self._native = native
        self._flow = flow
        self._client = client
        self._is_complete = False
        self._base = native.group(0)  # what the configuration says
        self.kind = OptimizerKind(self._base.optimizer)
        self._sent: dict[int, tuple[float, ...]] = {}
        super().__init__([dict(group) for group in groups], self._defaults())
        if client is not None:
            self.defaults.update(client.defaults)
            self.param_groups = client.param_groups  # the same dicts: a scheduler made for the client drives us
            if self.kind is not OptimizerKind.EXTERNAL:
                client.register_step_pre_hook(_RefusedStep(native))
        self._is_complete = True
        self.send_groups()

    def _defaults(self) -> dict[str, Any]:
        if self.kind is OptimizerKind.EXTERNAL:
            return {}
        base = self._base
        values: dict[str, Any] = {"lr": base.lr, "weight_decay": base.weight_decay}
        if self.kind in (OptimizerKind.ADAM, OptimizerKind.LION):
            values["betas"] = (base.beta1, base.beta2)
        if self.kind in (OptimizerKind.ADAM, OptimizerKind.ADAGRAD):
            values["eps"] = base.eps
        if self.kind is OptimizerKind.ADAGRAD:
            values["lr_decay"] = base.lr_decay
        if self.kind is OptimizerKind.ADAM:
            values["bias_correction"] = bool(base.bias_correction)
        return values

    def send_groups(self) -> None:
        """Tells the engine the values of the groups that have changed."""
        if self.kind is OptimizerKind.EXTERNAL:
            return
        for index, group in enumerate(self.param_groups):
            values = self._values(index, group)
            if values != self._sent.get(index):
                self._native.set_group(index, self._group_params(values))
                self._sent[index] = values

    def _values(self, index: int, group: dict[str, Any]) -> tuple[float, ...]:
        optim.check_options(index, group)
        base = self._base
        beta1, beta2 = group.get("betas", (base.beta1, base.beta2))
        return (
            float(self._is_decoupled(group)),
            float(group["lr"]),
            float(beta1),
            float(beta2),
            float(group.get("eps", base.eps)),
            float(group["weight_decay"]),
            float(group.get("bias_correction", True)),
            float(group.get("lr_decay", 0.0)),
        )

    def _is_decoupled(self, group: dict[str, Any]) -> bool:
        if self.kind is not OptimizerKind.ADAM:
            return bool(self._base.decoupled_weight_decay)
        if self._client is None:
            return bool(group.get("decoupled_weight_decay", self._base.decoupled_weight_decay))
        if isinstance(self._client, optim.HostOptimizer):
            return self._client.decoupled
        return isinstance(self._client, torch.optim.AdamW) or bool(group.get("decoupled_weight_decay", False))

    def _group_params(self, values: tuple[float, ...]) -> GroupParams:
        params = sized(GroupParams)
        params.decoupled_weight_decay = int(values[0])
        params.lr, params.beta1, params.beta2, params.eps, params.weight_decay = values[1:6]
        params.bias_correction, params.lr_decay = int(values[6]), values[7]
        params.optimizer = self.kind
        return cast(GroupParams, params)

    def group_values(self) -> list[dict[str, Any]]:
        """Every group without its parameters."""
        return [{key: value for key, value in group.items() if key != "params"} for group in self.param_groups]

    def set_group_values(self, saved: list[dict[str, Any]]) -> None:
        """Sets what `group_values` gave. Raises InvalidArgumentError for another number of groups."""
        if len(saved) != len(self.param_groups):
            raise InvalidArgumentError(
                f"optimizer: on its groups: {len(saved)} were saved, but it has {len(self.param_groups)}; make the same"
            )
        for group, values in zip(self.param_groups, saved, strict=True):
            group.update(values)
        self._sent.clear()  # the engine's own may have changed, too
        self.send_groups()

    def note_update(self) -> None:
        """Lets torch's schedulers know that an update has been applied."""
        for optimizer in (self, self._client):
            if optimizer is not None:
                cast(Any, optimizer)._opt_called = True

    def owns_scheduler(self, scheduler: Any) -> bool:
        """Whether what a scheduler writes reaches this optimizer."""
        driven = getattr(scheduler, "optimizer", self)
        return driven is self or driven is self._client

    # ---- torch.optim.Optimizer ----

    def step(self, closure: Callable[[], Any] | None = None) -> NoReturn:
        """Raises OutOfOrderError: updates happen in `engine.step()`."""
        _refuse_step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients of the micro-batches since the last update. After `engine.step()` there are none."""
        self._flow.warn_of_dropped_micro_batches()
        self._flow.discard()
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Raises UnsupportedError after `initialize`: the states have been laid out."""
        if getattr(self, "_is_complete", False):
            raise UnsupportedError(
                "optimizer.add_param_group: the states are laid out already; give every group to initialize"
            )
        super().add_param_group(param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the groups' values (lr and so on). Raises UnsupportedError if there are moments to load."""
        saved = state_dict["param_groups"]
        if state_dict.get("state"):
            raise UnsupportedError(
                "optimizer.load_state_dict: on 'state': moments are not loaded from torch's format in this version; "
                "use engine.write_plane"
            )
        if [len(group["params"]) for group in saved] != [len(group["params"]) for group in self.param_groups]:
            raise InvalidArgumentError("optimizer.load_state_dict: on 'param_groups': not the groups of this optimizer")
        self.set_group_values([{key: value for key, value in group.items() if key != "params"} for group in saved])


class _RefusedStep:
    """The client's own `step()`, while an engine has its parameters: they have no gradients that it could use."""

    def __init__(self, native: NativeEngine) -> None:
        self._native = weakref.ref(native)

    def __call__(self, *_: object) -> None:
        native = self._native()
        if native is not None and native.is_open:
            _refuse_step()


def client_of(optimizer: Any, parameters: Groups) -> torch.optim.Optimizer:
    """The torch optimizer that the caller gave, or that their function makes.

    Raises OutOfOrderError for one that has been used.
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        if not callable(optimizer):
            raise ConfigError(
                f"initialize: optimizer is a {type(optimizer).__name__}: must be a torch optimizer, or a function that "
                "makes one from parameter groups"
            )
        optimizer = optimizer(parameters)
    if any(state.get("step", 1) != 0 for state in optimizer.state.values()):  # Adagrad has states from the start
        raise OutOfOrderError(
            f"initialize: on optimizer {type(optimizer).__name__}: it has taken steps already and its states would be "
            "lost; give a new one"
        )
    return cast(torch.optim.Optimizer, optimizer)


def block_of(client: torch.optim.Optimizer) -> dict[str, Any]:
    """The configuration's optimizer block that a torch optimizer stands for; "External" for one that torch runs."""
    ours = optim.block_of(client)
    if ours is not None:
        return ours
    if type(client) is torch.optim.Adagrad:
        initial = client.defaults["initial_accumulator_value"]
        return {"type": "Adagrad", "params": {"initial_accumulator_value": initial}}
    if type(client) in (torch.optim.Adam, torch.optim.AdamW):
        return {"type": type(client).__name__}
    return {"type": "External"}


def groups_of(model_parameters: Iterable[Any] | None, model: nn.Module) -> Groups:
    """Parameters or groups of them as a list of groups; by default all that require a gradient."""
    if model_parameters is None:
        return [{"params": [p for p in model.parameters() if p.requires_grad]}]
    if isinstance(model_parameters, (torch.Tensor, dict)):
        model_parameters = [model_parameters]
    given = [_unnamed(item) for item in model_parameters]
    if all(isinstance(item, dict) for item in given):
        return [{**group, "params": _tensors(group["params"])} for group in given]
    if any(isinstance(item, dict) for item in given):
        raise InvalidArgumentError("model_parameters: a mixture of parameters and groups: give one kind")
    return [{"params": _tensors(given)}]


def _unnamed(item: Any) -> Any:
    """The parameter of a (name, parameter) pair of named_parameters()."""
    return item[1] if isinstance(item, tuple) and len(item) == 2 else item


def _tensors(params: Any) -> list[torch.Tensor]:
    tensors = [params] if isinstance(params, torch.Tensor) else [_unnamed(item) for item in params]
    for tensor in tensors:
        if not isinstance(tensor, torch.Tensor):
            raise InvalidArgumentError(
                f"model_parameters: on a {type(tensor).__name__}: must be parameters of the model"
            )
    return [tensor for tensor in tensors if tensor.requires_grad]
