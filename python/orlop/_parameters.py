"""A model's parameters as the engine sees them: numbered, grouped, and made views of the engine's memory."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ._dtypes import DTYPES
from ._enums import PARAM_FROZEN, PARAM_HELD, DType, Plane
from ._native import NativeEngine
from ._parked import away, convert, plain_torch, shape_of
from ._partitioned import mark
from .errors import InvalidArgumentError, OutOfOrderError, UnsupportedError

MAX_GROUPS = 1024

# They compute with the parameters of their children without calling them.
_USE_THEIR_CHILDREN = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
LEAF = "_z3_leaf"  # a module's attribute, as DeepSpeed has it: true where a program says the same of it


def uses_its_children(module: nn.Module) -> bool:
    """Whether the parameters within a module are needed while it runs, whichever module of it runs."""
    return isinstance(module, _USE_THEIR_CHILDREN) or bool(getattr(module, LEAF, False))


@dataclass
class Parameter:
    """One registered parameter. A tensor that several modules share is one parameter, under its first name."""

    name: str
    tensor: nn.Parameter
    dtype: DType
    group: int
    module: int
    is_frozen: bool
    number: int = -1  # the engine's id
    address: int = 0  # of the engine's memory, while the tensor is a view of it
    required_grad: bool = False  # when it was registered; frozen and true: in no optimizer group
    is_held: bool = False  # in use while modules are that are within its own
    shape: torch.Size = field(init=False)  # the tensor itself may be empty between its uses
    numel: int = field(init=False)

    def __post_init__(self) -> None:
        self.shape = shape_of(self.tensor)
        self.numel = self.shape.numel()

    def register(self, native: NativeEngine) -> None:
        flags = (PARAM_FROZEN if self.is_frozen else 0) | (PARAM_HELD if self.is_held else 0)
        self.number = native.register(self.name, self.dtype, self.numel, self.group, self.module, flags)

    def move_in(self, native: NativeEngine) -> None:
        """Gives the engine the values and lets the tensor be a view of the engine's memory, without a copy."""
        self.give_values(native)
        self.address = native.address(self.number)
        with plain_torch():
            self.tensor.data = view_of(self.address, self.shape, self.tensor.dtype, self.tensor.device)

    def give_values(self, native: NativeEngine) -> None:
        """Gives the engine the values, of which no more than a piece is in memory when they are away from it."""
        found = away(self.tensor)
        if found is None:
            self.write(native, Plane.PARAM, self.tensor)
            return
        for first, piece in found.pieces():
            native.write(self.number, Plane.PARAM, first, piece.numel(), DTYPES[piece.dtype], piece.data_ptr())

    def write(self, native: NativeEngine, plane: Plane, values: Tensor) -> None:
        """Sets a plane to the values of a tensor of the parameter's shape."""
        source = values.detach().to("cpu", values.dtype if values.dtype in DTYPES else torch.float32).contiguous()
        if source.data_ptr() == self.address:  # the engine's own memory
            source = source.clone()
        native.write(self.number, plane, 0, self.numel, DTYPES[source.dtype], source.data_ptr())

    def read(self, native: NativeEngine, plane: Plane, dtype: torch.dtype) -> Tensor:
        """A plane's values as a CPU tensor of the parameter's shape."""
        values = torch.empty(self.shape, dtype=dtype)
        native.read(self.number, plane, self.numel, DTYPES[dtype], values.data_ptr())
        return values

    def move_out(self) -> None:
        """Gives the tensor memory of torch's own with the same values, and every alias of it, too."""
        address, self.address = self.address, 0
        if self.tensor.data_ptr() == address:  # else somebody replaced it
            self._leave_memory()
        if hasattr(self.tensor, "ds_id"):
            mark(self.tensor, self.shape, self.tensor.detach().reshape(-1), None)

    def _leave_memory(self) -> None:
        ours = self.tensor.data.untyped_storage()
        theirs = self.tensor.detach().clone(memory_format=torch.contiguous_format)
        if hasattr(ours, "_swap_data_ptr_") and theirs.untyped_storage().nbytes() == ours.nbytes():
            ours._swap_data_ptr_(theirs.untyped_storage())  # slices and detached tensors follow
        else:
            self.tensor.data = theirs


class _CudaMemory:
    """Device memory in the form that torch.as_tensor takes without a copy."""

    def __init__(self, address: int, numel: int, itemsize: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (numel,),
            "typestr": f"<i{itemsize}",
            "data": (address, False),
            "version": 3,
        }


def view_of(address: int, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A contiguous tensor over the memory at `address`."""
    if device.type == "cuda":
        memory = _CudaMemory(address, shape.numel(), dtype.itemsize)
        return torch.as_tensor(memory, device=device).view(dtype).view(shape)
    size = shape.numel() * dtype.itemsize
    return torch.frombuffer((ctypes.c_char * size).from_address(address), dtype=dtype).view(shape)


def check_group_members(groups: list[dict[str, Any]], model: nn.Module) -> None:
    """Raises InvalidArgumentError for groups that no training could use."""
    if len(groups) > MAX_GROUPS:
        raise InvalidArgumentError(f"model_parameters: {len(groups)} groups: at most {MAX_GROUPS} are possible")
    names = {parameter: name for name, parameter in model.named_parameters()}
    group_of: dict[Tensor, int] = {}
    for index, group in enumerate(groups):
        for tensor in group["params"]:
            if tensor not in names:
                raise InvalidArgumentError(
                    f"model_parameters: on a tensor of shape {tuple(tensor.shape)} in group {index}: "
                    "it is no parameter of the model; put it into a module of the model"
                )
            if tensor in group_of:
                raise InvalidArgumentError(
                    f"model_parameters: on {names[tensor]}: given twice (groups {group_of[tensor]} and {index}); "
                    "keep one"
                )
            group_of[tensor] = index


def parameters_of(model: nn.Module, groups: list[dict[str, Any]], trains: bool = True) -> list[Parameter]:
    """The model's parameters in the order in which their modules were made.

    Trainable are those that require a gradient and are in a group; all others count as frozen. Those that the engine
    has no use for (no elements, or frozen and of another type) stay with torch. With `trains` there must be one to
    train.
    """
    group_of = {tensor: index for index, group in enumerate(groups) for tensor in group["params"]}
    module_of = _module_numbers(model)
    held = _held(model)
    found = []
    for name, tensor in model.named_parameters():
        is_frozen = not tensor.requires_grad or tensor not in group_of
        if shape_of(tensor).numel() == 0 or (is_frozen and tensor.dtype not in DTYPES):
            continue
        dtype = _dtype_of(name, tensor)
        group, module = group_of.get(tensor, 0), module_of[tensor]
        found.append(
            Parameter(
                name,
                tensor,
                dtype,
                group,
                module,
                is_frozen,
                required_grad=tensor.requires_grad,
                is_held=tensor in held,
            )
        )
    if trains and all(parameter.is_frozen for parameter in found):
        raise InvalidArgumentError(
            "initialize: no parameter to train: none of the model's requires a gradient and is in model_parameters"
        )
    return found


def _dtype_of(name: str, tensor: Tensor) -> DType:
    if tensor.dtype not in DTYPES:
        raise UnsupportedError(
            f"initialize: on {name} ({str(tensor.dtype).removeprefix('torch.')}): parameters can be float32, "
            "bfloat16 or float16; convert the model first"
        )
    return DTYPES[tensor.dtype]


def _module_numbers(model: nn.Module) -> dict[Tensor, int]:
    """For each parameter a number of what is needed together.

    That is a block of a ModuleList, a module that uses the parameters within it itself, else the module that has it.
    """
    numbers: dict[str, int] = {}
    modules = dict(model.named_modules())
    return {
        tensor: numbers.setdefault(_unit_path(name, modules), len(numbers)) for name, tensor in model.named_parameters()
    }


def _held(model: nn.Module) -> set[Tensor]:
    """Parameters of modules within which others have parameters, too."""
    return {
        tensor
        for module in model.modules()
        if not uses_its_children(module) and any(True for child in module.children() for _ in child.parameters())
        for tensor in module.parameters(recurse=False)
    }


def _unit_path(name: str, modules: dict[str, nn.Module]) -> str:
    parts = name.split(".")[:-1]
    for depth in range(len(parts)):
        is_block = isinstance(modules.get(".".join(parts[:depth])), nn.ModuleList)
        within = modules.get(".".join(parts[: depth + 1]))
        if is_block or (within is not None and uses_its_children(within)):
            return ".".join(parts[: depth + 1])
    return ".".join(parts)


def is_frozen(tensor: Tensor) -> bool:
    """Whether it is a parameter that requires no gradient."""
    return isinstance(tensor, nn.Parameter) and not tensor.requires_grad


def tied_names(model: nn.Module) -> dict[str, str]:
    """Names of parameters that have another one, under which an engine knows them, each with that one."""
    first: dict[int, str] = {}
    named = model.named_parameters(remove_duplicate=False)
    return {name: first[id(tensor)] for name, tensor in named if first.setdefault(id(tensor), name) != name}


Layout = list[tuple[str, nn.Parameter]]


def layout_of(model: nn.Module) -> Layout:
    """Every parameter under each of its names."""
    return list(model.named_parameters(remove_duplicate=False))


def check_layout(model: nn.Module, before: Layout) -> None:
    """Raises OutOfOrderError when a model has other parameters than before."""
    now = layout_of(model)
    if len(now) == len(before) and all(a[0] == b[0] and a[1] is b[1] for a, b in zip(now, before, strict=True)):
        return
    found, expected = dict(now), dict(before)
    name = next((name for name in (*found, *expected) if found.get(name) is not expected.get(name)), now[0][0])
    how = "added to" if name not in expected else "removed from" if name not in found else "replaced in"
    raise OutOfOrderError(
        f"step: on {name}: it was {how} the model since initialize, which the engine does not know: change the model "
        "before, or close the engine and initialize again"
    )


def check_memory(model: nn.Module) -> None:
    """Raises UnsupportedError when two parameters overlap: as views of the engine's memory they would come apart."""
    ordered = sorted(
        (str(tensor.device), tensor.data_ptr(), tensor.nbytes, name)
        for name, tensor in model.named_parameters()
        if tensor.data_ptr()
    )
    for (device, begin, size, first), (next_device, next_begin, _, second) in itertools.pairwise(ordered):
        if device == next_device and next_begin < begin + size:
            raise UnsupportedError(
                f"initialize: on {first} and {second}: two parameters that share memory: to tie them, let both modules "
                "have the same Parameter"
            )


def cast_buffers(model: nn.Module, dtype: torch.dtype) -> None:
    """Converts the floating-point buffers."""
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                module._buffers[name] = buffer.to(dtype)


def cast_parameters(model: nn.Module, dtype: torch.dtype) -> None:
    """Converts the floating-point parameters; buffers keep their type."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            convert(parameter, dtype)


def check_unscaled(model: nn.Module) -> None:
    """Raises UnsupportedError for fp16 parameters to train: without fp16.enabled no loss is scaled for them."""
    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float16 and parameter.requires_grad:
            raise UnsupportedError(
                f"initialize: on {name} (float16): small fp16 gradients vanish unless the loss is scaled; write "
                '"fp16": {"enabled": true}, or convert the model'
            )


def half_precision(inputs: Any) -> Any:
    """`inputs` with every floating-point tensor in it, through tuples, lists and dicts, as fp16."""
    if isinstance(inputs, torch.Tensor):
        return inputs.half() if inputs.is_floating_point() else inputs
    if isinstance(inputs, dict):
        return {name: half_precision(value) for name, value in inputs.items()}
    if isinstance(inputs, (tuple, list)) and not hasattr(inputs, "_fields"):
        return type(inputs)(half_precision(value) for value in inputs)
    return inputs


def device_of(parameters: Iterable[Parameter]) -> torch.device:
    """The one device all parameters are on. Raises UnsupportedError when there are several, or one of another kind."""
    devices = {parameter.tensor.device for parameter in parameters}
    if len(devices) != 1:
        raise UnsupportedError(f"initialize: parameters on {sorted(map(str, devices))}: put the model on one device")
    device = devices.pop()
    if device.type not in ("cpu", "cuda"):
        raise UnsupportedError(f"initialize: parameters on {device}: they can be on the cpu or a cuda device")
    return device
