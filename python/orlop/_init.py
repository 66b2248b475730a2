"""`zero.Init`: while a model is being built, its parameters' values leave memory as soon as nothing uses them.

A parameter is noted when a module is given it. It leaves when it has not been used for longest and room is wanted, and
comes back when any function of torch is called with it: initialisers that run late, tied weights, slices, copies all
find real tensors, in the order in which they would without, so that the values are the same bit for bit.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.overrides import TorchFunctionMode

from . import _heap
from ._dtypes import DTYPES
from ._parked import InMemory, Keep, Parked, Source, away, bytes_of, parked, plain_torch
from ._scratch import Scratch
from ._units import is_in_backward
from .config import Config, ConfigSource
from .engine import open_engines
from .errors import ConfigError, OutOfOrderError, UnsupportedError

_KEPT_BYTES = 32 << 20  # of parameters not used just now that stay in memory

_CLASS: Any = Tensor
# What is asked of a parameter's shape: answered without its values.
_OF_SHAPE = {
    _CLASS.shape.__get__,
    _CLASS.ndim.__get__,
    *(Tensor.size, Tensor.numel, Tensor.nelement, Tensor.dim, Tensor.ndimension, Tensor.stride),
    *(Tensor.is_contiguous, Tensor.__len__),
}
# What an empty tensor answers and does as a full one would.
_OF_ANY = {
    _CLASS.dtype.__get__,
    _CLASS.device.__get__,
    _CLASS.layout.__get__,
    _CLASS.requires_grad.__get__,
    _CLASS.requires_grad.__set__,
    _CLASS.is_meta.__get__,
    _CLASS.is_cuda.__get__,
    _CLASS.is_leaf.__get__,
    _CLASS.grad.__get__,
    *(Tensor.requires_grad_, Tensor.is_floating_point, Tensor.is_complex, Tensor.element_size),
    *(torch.is_floating_point, torch.is_complex),
}


class Init:
    """Builds a model whose parameters are not in memory, so that it may be larger than that.

        with orlop.zero.Init(config_dict_or_path="ds_config.json"):
            model = Model()
        engine, *_ = orlop.initialize(model=model, config="ds_config.json")

    With `offload_param.device` "nvme" values are kept in a file without a name in `nvme_path` until `initialize` gives
    them to the engine: in the type in which the model makes them, 4 bytes per fp32 parameter, until then, and within
    orlop.memory.nvme, as `initialize` has them within it beside the store. In memory are
    the parameters in use, at most 32 MiB of others, and what a module makes at once. With "cpu" or "none", and without
    a configuration, they stay. Values and random numbers are those of building without it. At the end of the
    outermost block parameters are converted to `dtype`, by default what fp16 or bf16 of the configuration says. Between
    the block and `initialize`, `GatheredParameters` brings them.

    module: a model that is there; its parameters leave now.
    remote_device: "cpu", "nvme" or "none", instead of the configuration's offload_param.device.
    config_dict_or_path: as for `initialize`; `config` is another name for it.
    enabled: false makes the block do nothing.
    dtype: torch.float32, torch.bfloat16 or torch.float16.
    data_parallel_group, mpu, zero_param_parallel_group, sequence_data_parallel_group: of one rank in this version.
    mem_efficient_linear, pin_memory: DeepSpeed's; they have no effect. Its quantized weights and param_swapper are
        refused.

    Raises ConfigError and UnsupportedError for what it is given, NotFoundError and NoPermissionError for a directory;
    inside the block NoSpaceError when the drive or its budget is full, with nothing lost: what is in memory stays.
    """

    scatters = False
    """Whether parameters whose values stay in memory look empty after the block, too, as DeepSpeed's do. Nothing is
    copied: `GatheredParameters` shows them."""
    plain_dtype: torch.dtype | None = None
    """What parameters are converted to without a configuration; None: they stay as they are made."""

    def __init__(
        self,
        module: nn.Module | None = None,
        data_parallel_group: Any = None,
        mem_efficient_linear: bool = True,
        remote_device: str | None = None,
        pin_memory: bool = False,
        config_dict_or_path: ConfigSource | None = None,
        config: ConfigSource | None = None,
        enabled: bool = True,
        dtype: torch.dtype | None = None,
        mpu: Any = None,
        zero_param_parallel_group: Any = None,
        zero_quantized_weights: bool = False,
        zero_quantized_nontrainable_weights: bool = False,
        sequence_data_parallel_group: Any = None,
        param_swapper: Any = None,
    ) -> None:
        _check_one_rank(
            data_parallel_group=data_parallel_group,
            mpu=mpu,
            zero_param_parallel_group=zero_param_parallel_group,
            sequence_data_parallel_group=sequence_data_parallel_group,
        )
        _check_not_asked_for(
            zero_quantized_weights=zero_quantized_weights,
            zero_quantized_nontrainable_weights=zero_quantized_nontrainable_weights,
            param_swapper=param_swapper,
        )
        if config_dict_or_path is not None and config is not None:
            raise ConfigError("zero.Init: the configuration is given twice: keep one of config_dict_or_path and config")
        self.enabled = enabled
        self._scratch: Scratch | None = None
        self._checks_changes = False
        if not enabled:
            return
        given = config_dict_or_path if config is None else config
        resolved = Config(given)
        self._dtype = _dtype_of(dtype if dtype is not None or given is not None else self.plain_dtype, resolved)
        self._checks_changes = bool(resolved.get("zero_optimization.enable_sanity_checks"))
        self._folder = _folder_of(remote_device, resolved)
        self._limit = resolved.get("orlop.memory.nvme")
        if module is not None:
            self._store(module)

    def _store(self, module: nn.Module) -> None:
        """As if the module had been built inside."""
        self._open()
        for parameter in module.parameters():
            _building.note(parameter, self)
        _finish([module], leaves=True)

    def _open(self) -> None:
        if self._folder is not None and self._scratch is None:
            self._scratch = Scratch(self._folder, self._limit)
            _heap.give_back_from_now_on()

    def park(self, parameter: nn.Parameter) -> Parked:
        """Notes a parameter that is built now."""
        found = Parked(parameter, self._keep)
        found.wanted, found.checks_changes = self._dtype, self._checks_changes
        found.mark()
        return found

    @property
    def _keep(self) -> Keep:
        scratch = self._scratch
        if scratch is None:
            return InMemory if self.scatters else None
        return lambda values: _put_into(scratch, values)

    def __enter__(self) -> Init:
        if self.enabled:
            _check_between_steps()
            self._open()
            _building.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.enabled:
            _building.end(failed=kind is not None)


def _put_into(scratch: Scratch, values: Tensor) -> Source:
    on_cpu = values.cpu()
    return scratch.keep(bytes_of(on_cpu))


class _Bringing(TorchFunctionMode):
    """Has every parameter in memory that a function of torch is called with."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in _OF_ANY:
            return function(*args, **kwargs)
        if function in _OF_SHAPE and (found := away(args[0])) is not None:
            return function(torch.empty(found.shape, dtype=found.dtype, device="meta"), *args[1:], **kwargs)
        _building.use(list(_parameters_in((args, kwargs))))
        return function(*args, **kwargs)


def _parameters_in(value: Any) -> Iterator[nn.Parameter]:
    if isinstance(value, nn.Parameter):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _parameters_in(item)
    elif isinstance(value, dict):
        yield from _parameters_in(tuple(value.values()))


class _Building:
    """What is between the beginning and the end of the outermost block."""

    def __init__(self) -> None:
        self._blocks: list[Init] = []
        self._thread = 0
        self._handles: list[Any] = []
        self._mode: _Bringing | None = None
        self._modules: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._present: dict[int, tuple[weakref.ref[Parked], int]] = {}  # by id, with bytes, the longest unused first
        self._present_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def begin(self, block: Init) -> None:
        if not self._blocks:
            self._thread = threading.get_ident()
            self._handles = [
                torch_module.register_module_parameter_registration_hook(self._note_parameter),
                torch_module.register_module_module_registration_hook(self._note_module),
            ]
            self._mode = _Bringing()
            self._mode.__enter__()  # type: ignore[no-untyped-call]
        self._blocks.append(block)

    def end(self, failed: bool) -> None:
        block = self._blocks.pop()
        if self._blocks:
            return
        for handle in self._handles:
            handle.remove()
        assert self._mode is not None
        self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        modules = list(self._modules)
        for module in modules:
            for parameter in module._parameters.values():
                self.note(parameter, block)  # what came past register_parameter, as to_empty() sets it
        self._modules.clear()
        self._present.clear()
        self._present_bytes = 0
        _finish(modules, leaves=not failed)

    def suspend(self) -> list[Init]:
        """Ends every block for now; gives what `resume` begins anew."""
        blocks = list(self._blocks)
        while self._blocks:
            self.end(failed=False)
        return blocks

    def resume(self, blocks: list[Init]) -> None:
        for block in blocks:
            self.begin(block)

    def _note_parameter(self, module: nn.Module, _name: str, parameter: Any) -> None:
        if threading.get_ident() == self._thread:
            self._modules.add(module)
            self.note(parameter, self._blocks[-1])
            self.use([parameter])

    @plain_torch()
    def note(self, parameter: Any, block: Init) -> None:
        """Has a block's way with a parameter, from now on."""
        if (
            type(parameter) is nn.Parameter
            and parked(parameter) is None
            and parameter.numel()
            and not parameter.is_meta
        ):
            block.park(parameter)

    def _note_module(self, module: nn.Module, _name: str, _child: nn.Module | None) -> None:
        if threading.get_ident() == self._thread:
            self._modules.add(module)
            self._make_room(0)

    def use(self, parameters: list[nn.Parameter]) -> None:
        """Has parameters in memory together, and others that there is no room for out of it."""
        used = {id(found): found for each in parameters if (found := parked(each)) is not None and found.may_leave}
        if not used:
            return
        for key in used:
            self._forget(key)
        self._make_room(sum(found.nbytes for found in used.values()))
        for key, found in used.items():
            found.bring()
            self._present[key] = weakref.ref(found), found.nbytes
            self._present_bytes += found.nbytes

    def _forget(self, key: int) -> None:
        _, nbytes = self._present.pop(key, (None, 0))
        self._present_bytes -= nbytes

    def _make_room(self, nbytes: int) -> None:
        """For so many bytes beside those that may stay."""
        for key, (reference, _) in list(self._present.items()) if self._is_short_of(nbytes) else ():
            found = reference()
            if found is not None and found.can_leave():
                found.leave()
            if found is None or found.is_away:
                self._forget(key)
            if not self._is_short_of(nbytes):
                break

    def _is_short_of(self, nbytes: int) -> bool:
        return self._present_bytes + nbytes > _KEPT_BYTES


_building = _Building()


def is_building() -> bool:
    """Whether a model is being built inside `zero.Init`."""
    return bool(_building)


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Outside every block of `zero.Init` that a program is in: what has been built until now is complete."""
    blocks = _building.suspend()
    try:
        yield
    finally:
        _building.resume(blocks)


def _finish(modules: Iterable[nn.Module], leaves: bool) -> None:
    """These are built: their parameters leave, and take the types that they are to have."""
    owners = {id(owner): owner for module in modules for owner in module.modules()}.values()
    every = [parked(parameter) for owner in owners for parameter in owner._parameters.values()]
    built = dict.fromkeys(found for found in every if found is not None)
    try:
        for found in built if leaves else ():
            if found.can_leave():
                found.leave()
    finally:  # also of those that the drive has no room for
        for found in built:
            _settle(found)
        for owner in owners:
            if any(away(parameter) for parameter in owner._parameters.values()):
                guard(owner)


def _settle(found: Parked) -> None:
    if found.wanted is not None:
        found.cast(found.wanted)
        found.wanted = None
    if not found.is_away:
        found.end()


# ---- Forward before initialize ----

_guards: weakref.WeakKeyDictionary[nn.Module, Any] = weakref.WeakKeyDictionary()


def guard(module: nn.Module) -> None:
    """Lets a forward of the module say what to do while parameters of it are not in memory."""
    if module not in _guards:
        _guards[module] = module.register_forward_pre_hook(_refuse_forward, prepend=True)


def _refuse_forward(module: nn.Module, _args: Any) -> None:
    if _building:
        return
    for name, parameter in module._parameters.items():
        if (found := away(parameter)) is not None:
            raise OutOfOrderError(
                f"forward: on {name} {tuple(found.shape)} of a {type(module).__name__}: its values are not in memory "
                "yet: call orlop.initialize first, or gather them with orlop.zero.GatheredParameters"
            )


def bring_what_stays(model: nn.Module, registered: Iterable[Tensor]) -> None:
    """Has those parameters in memory that the engine has no use for."""
    ours = {id(tensor) for tensor in registered}
    for parameter in model.parameters():
        if id(parameter) not in ours and (found := parked(parameter)) is not None:
            found.bring()


def end_building(model: nn.Module) -> None:
    """An engine has the parameters of this model."""
    for module in model.modules():
        if (handle := _guards.pop(module, None)) is not None:
            handle.remove()
    for parameter in model.parameters():
        if (found := parked(parameter)) is not None:
            found.end()


# ---- Arguments ----


def _check_one_rank(**groups: Any) -> None:
    for name, group in groups.items():
        size = getattr(group, "size", lambda: 1)
        if group is not None and (name == "mpu" or not callable(size) or size() != 1):
            raise UnsupportedError(f"zero.Init: on {name}: this version runs one rank; leave it out")


def _check_not_asked_for(**options: Any) -> None:
    for name, value in options.items():
        if value:
            raise UnsupportedError(f"zero.Init: on {name}: not supported; leave it out")


def _check_between_steps() -> None:
    if is_in_backward() or any(engine.is_in_pass for engine in open_engines()):
        raise OutOfOrderError(
            "zero.Init: inside a forward or backward pass of an engine: build models before or after it"
        )


def _dtype_of(dtype: torch.dtype | None, config: Config) -> torch.dtype | None:
    if dtype is not None and dtype not in DTYPES:
        known = ", ".join(map(str, DTYPES))
        raise UnsupportedError(f"zero.Init: on dtype {dtype}: parameters can be {known}")
    if dtype is not None:
        return dtype
    if config.get("fp16.enabled"):
        return torch.float16
    return torch.bfloat16 if config.get("bf16.enabled") else None


def _folder_of(remote_device: str | None, config: Config) -> Path | None:
    """Where values go; None: they stay."""
    device = remote_device or config.get("zero_optimization.offload_param.device", "none")
    if device not in ("none", "cpu", "nvme"):
        raise ConfigError(f'zero.Init: on remote_device {device!r}: must be "none", "cpu" or "nvme"')
    if device != "nvme":
        return None
    zero = "zero_optimization"
    path = config.get(f"{zero}.offload_param.nvme_path") or config.get(f"{zero}.offload_optimizer.nvme_path")
    if path is None:
        raise ConfigError(
            'zero.Init: on remote_device "nvme": nvme_path is missing; write "nvme_path": "/directory/on/the/drive" '
            "into offload_param of the configuration"
        )
    return Path(os.fspath(path if isinstance(path, str) else path[0])).absolute()
