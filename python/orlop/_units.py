"""Parameters that live in the store: in memory while a module computes with them, given up afterwards.

A unit is what the engine fetches at once. Its memory is one torch storage that is resized to nothing when the unit is
evicted, and its parameters are empty tensors meanwhile: tensors that autograd has saved keep referring to the storage,
and find the values again when the backward pass has fetched the unit anew.

A module's units are used from before its forward, or before the gradient of its outputs is computed, until the next
module comes, in a backward pass until all their gradients have been taken. The engine then says whether a unit is
evicted or stays in memory for its next use, which costs nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from . import _heap, _log
from ._dtypes import TORCH_TYPES
from ._enums import UNIT_FROZEN, UNIT_STORED, DType, Use
from ._native import NativeEngine
from ._parameters import USE_THEIR_CHILDREN, Parameter
from ._parked import ZeroParamStatus, mark, parked
from ._unit_memory import UnitMemory
from .errors import OrlopError


def is_in_backward() -> bool:
    """Whether autograd is running on this thread."""
    return bool(torch._C._current_graph_task_id() != -1)


class StoredUnit:
    """Parameters that are fetched and given up together."""

    def __init__(self, native: NativeEngine, number: int, device: torch.device, memory: UnitMemory) -> None:
        info = native.unit(number)
        self.number = number
        self.is_frozen = bool(info.flags & UNIT_FROZEN)
        self.members: list[Parameter] = []
        self.is_live = False  # in memory
        self.is_used = False  # by the engine's count
        self.uses = 0  # modules in whose forward it is
        self.gathers = 0
        self.is_owned = False  # by a backward pass
        self.is_done = False  # that backward pass needs it no more
        self.backward = -1  # the number of that pass
        self.left: set[int] = set()  # parameters whose gradient it has not taken
        self.calls = 0  # of frozen modules, which it is in the middle of
        self._native = native
        self._memory = memory
        with torch.inference_mode(False):
            self._flat = torch.empty(info.elements, dtype=TORCH_TYPES[DType(info.dtype)], device=device)
            self._gone = torch.empty(0, dtype=self._flat.dtype, device=device)
        self.dtype, self.device = self._flat.dtype, self._flat.device
        self.bytes = self._flat.untyped_storage().nbytes()
        self._views: list[Tensor] = []

    def add(self, parameter: Parameter, first: int) -> None:
        """Makes a parameter, which begins at an element of the unit, one of its members, and lets go of its memory."""
        self.members.append(parameter)
        with torch.inference_mode(False):
            self._views.append(self._flat[first : first + parameter.numel].view(parameter.shape))
        parameter.tensor.data = self._gone
        mark(parameter.tensor, parameter.shape)

    def empty(self) -> None:
        """When all members are there."""
        self._flat.untyped_storage().resize_(0)

    @property
    def has_the_only_values(self) -> bool:
        """False while those of all its members still wait in a file, too."""
        return any(parked(parameter.tensor) is None for parameter in self.members)

    @property
    def module(self) -> str:
        """The name of the module that has its first parameter."""
        return self.members[0].name.rpartition(".")[0]

    @property
    def is_idle(self) -> bool:
        return self.uses == 0 and self.gathers == 0 and not self.is_owned

    def use(self, use: Use) -> None:
        """Begins a use. Memory for the unit has been made room for."""
        if not self.is_live:
            self._memory.give(self._flat.untyped_storage(), self.bytes)
        stream = torch.cuda.current_stream(self._flat.device).cuda_stream if self._flat.is_cuda else 0
        self._native.unshard(self.number, use, self._flat.data_ptr(), stream)
        self.is_used = True
        if self.is_live:
            return
        for parameter, view in zip(self.members, self._views, strict=True):
            parameter.tensor.data = view
            parameter.tensor.ds_status = ZeroParamStatus.AVAILABLE  # type: ignore[attr-defined]
        self.is_live = True

    def end_use(self) -> None:
        """Stays in memory if the engine says so."""
        self.is_used = False
        if not self._native.reshard(self.number):
            self.free()

    def give_up(self) -> None:
        """Is in memory no more, whatever the engine had planned."""
        if not self.is_live:
            return
        self.is_used = False
        self._native.give_up(self.number)
        self.free()

    def move_out(self) -> None:
        """Leaves the engine: its parameters get memory of their own."""
        self.use(Use.ACCESS)
        for parameter in self.members:
            parameter.tensor.data = parameter.tensor.data.clone()
        self._native.give_up(self.number)
        self._views.clear()
        self._flat = self._gone  # what a program still refers to stays

    def free(self) -> None:
        """The engine counts the unit as evicted."""
        for parameter in self.members:
            parameter.tensor.data = self._gone
            parameter.tensor.ds_status = ZeroParamStatus.NOT_AVAILABLE  # type: ignore[attr-defined]
        self._memory.take_back(self._flat.untyped_storage())
        self.is_live = False

    def begin_backward(self, number: int) -> None:
        self.backward = number
        self.is_done = False
        self.left = set() if self.is_frozen else {parameter.number for parameter in self.members}


class _Hook:
    """A module's hook that a pickled or deep-copied model is without."""

    def __init__(self, call: Callable[..., None] | None = None) -> None:
        self._call = call

    def __call__(self, *args: Any) -> None:
        if self._call is not None:
            self._call(*args)

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


class _Call:
    """One forward of a module, for the backward pass that comes to it: what it holds, and until when.

    Trained parameters are held until their gradients have been taken. Frozen ones give none: the gradients of the
    module's inputs are the last that they are needed for.
    """

    def __init__(self, owner: Units, units: list[StoredUnit], inputs: list[Tensor]) -> None:
        self._owner = owner
        self._units = units
        self._frozen = [unit for unit in units if unit.is_frozen]
        self._inputs = len(inputs)
        self._waiting = 0
        self._backward = -1
        if self._frozen:
            for tensor in inputs:
                tensor.register_hook(self._end_input)  # type: ignore[no-untyped-call]

    def watch(self, outputs: Iterable[Tensor]) -> None:
        for tensor in outputs:
            _before_gradient_of(tensor, self._begin)

    def _begin(self, _gradients: Any) -> None:
        if self._backward != self._owner.backwards:
            self._backward, self._waiting = self._owner.backwards, self._inputs
            for unit in self._frozen:
                unit.calls += 1
        self._owner.own_for(self._units)

    def _end_input(self, _gradient: Tensor) -> None:
        if self._backward != self._owner.backwards:
            return
        self._waiting -= 1
        if self._waiting == 0:
            for unit in self._frozen:
                unit.calls -= 1
                unit.is_owned = unit.calls > 0  # its memory goes when another unit's turn comes


class Units:
    """All units of a model that live in the store, and the hooks that bring them."""

    def __init__(self, native: NativeEngine) -> None:
        self._units: dict[int, StoredUnit] = {}
        self._used: set[StoredUnit] = set()
        self._unit_of: dict[int, StoredUnit] = {}  # by id of the tensor
        self._by_number: dict[int, StoredUnit] = {}  # by the engine's id of the parameter
        self.backwards = 0  # passes so far
        self._forward_use: Use | None = None  # of the whole model's forward, while there is one
        self._handles: list[Any] = []
        self._native = native
        self._memory = UnitMemory()
        self._units_of: dict[nn.Module, list[StoredUnit]] = {}

    def take(self, model: nn.Module, parameters: list[Parameter]) -> None:
        """Gives the engine those that are to live in the store, and the model's modules hooks that bring them."""
        places = [(parameter, *self._native.place(parameter.number)) for parameter in parameters]
        stored = [place for place in places if self._native.unit(place[1]).flags & UNIT_STORED]
        if stored:
            _heap.give_back_from_now_on()  # or units' memory, not used yet, would be pieces that have been
        for parameter, number, first in stored:
            self._add(number, first, parameter)
        for unit in self._units.values():
            unit.empty()
        largest = max((unit.bytes for unit in self._units.values()), default=0)
        self._memory.limit(self._native.stats().live_limit_bytes, largest)
        self._units_of = {module: units for module in model.modules() if (units := self._found_in(module))}
        for module in self._units_of:
            self._attach_to(module)
        if self._units:
            hook = _Hook(self._before_state_dict)
            self._handles.append(model.register_state_dict_pre_hook(hook))  # type: ignore[no-untyped-call]

    def _add(self, number: int, first: int, parameter: Parameter) -> None:
        parameter.give_values(self._native)
        if number not in self._units:
            self._units[number] = StoredUnit(self._native, number, parameter.tensor.device, self._memory)
        unit = self._units[number]
        unit.add(parameter, first)
        self._unit_of[id(parameter.tensor)] = self._by_number[parameter.number] = unit

    def _found_in(self, module: nn.Module) -> list[StoredUnit]:
        recurse = isinstance(module, USE_THEIR_CHILDREN)
        units = [self._unit_of.get(id(parameter)) for parameter in module.parameters(recurse)]
        return list(dict.fromkeys(unit for unit in units if unit is not None))

    def __bool__(self) -> bool:
        return bool(self._units)

    def has(self, parameter: Parameter) -> bool:
        return parameter.number in self._by_number

    def is_replaced(self, parameter: Parameter) -> bool:
        """Whether a program has given a parameter other memory while its unit was in none."""
        tensor, unit = parameter.tensor, self._by_number[parameter.number]
        has_moved = tensor.dtype != unit.dtype or tensor.device != unit.device
        return has_moved or (not unit.is_live and tensor.numel() > 0)

    def unexpected_uses(self) -> dict[str, int]:
        """Uses that came in another order than the pass before had shown, by the module that has the parameters."""
        counts: dict[str, int] = {}
        for number, about in enumerate(self._native.describe()["units"] if self._units else []):
            if number in self._units and (count := about["uses"]["unexpected"]):
                name = self._units[number].module
                counts[name] = counts.get(name, 0) + count
        return counts

    def register_external(self, module: nn.Module, tensor: Tensor) -> None:
        """Lets a module have a parameter that it uses, but that is another module's."""
        unit = self._unit_of.get(id(tensor))
        if unit is None:
            return
        if module not in self._units_of:
            self._units_of[module] = []
            self._attach_to(module)
        if unit not in self._units_of[module]:
            self._units_of[module].append(unit)

    # ---- Hooks ----

    def _attach_to(self, module: nn.Module) -> None:
        before = module.register_forward_pre_hook(_Hook(self._before), prepend=True)
        after = module.register_forward_hook(_Hook(self._after), with_kwargs=True, always_call=True)
        self._handles += [before, after]

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _before(self, module: nn.Module, _args: Any) -> None:
        units = self._units_of[module]
        self._end_idle(units)
        for unit in units:
            if is_in_backward():  # activations are computed again
                self._own(unit, Use.RECOMPUTE)
            else:
                unit.uses += 1
                self._use(unit, self._use_of_forward())

    def _use_of_forward(self) -> Use:
        if self._forward_use is not None:
            return self._forward_use
        return Use.FORWARD if torch.is_grad_enabled() else Use.EVALUATION

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _after(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if is_in_backward():
            return
        units = self._units_of[module]
        for unit in units:
            unit.uses = max(0, unit.uses - 1)
        if torch.is_grad_enabled():
            _Call(self, units, list(_differentiable((args, kwargs)))).watch(_differentiable(output))

    def _before_state_dict(self, _module: nn.Module, _prefix: str, keep_vars: bool) -> None:
        gone = [member.name for unit in self._units.values() if not unit.is_live for member in unit.members]
        if gone and not keep_vars:  # else it is the engine's own
            _log.logger.warning(
                "state_dict: on %s and %d more: they live in the store, and the state has empty tensors for them: call "
                "engine.module_state_dict() or save_checkpoint(), or gather them with orlop.zero.GatheredParameters",
                gone[0],
                len(gone) - 1,
            )

    def own_for(self, units: list[StoredUnit]) -> None:
        """A backward pass comes to a module with these units."""
        self._end_idle(units)
        for unit in units:
            self._own(unit, Use.BACKWARD)

    def _own(self, unit: StoredUnit, use: Use) -> None:
        """Holds a unit until this backward pass has its gradients."""
        if unit.backward != self.backwards or (use is Use.RECOMPUTE and unit.is_done):
            unit.begin_backward(self.backwards)
        if unit.is_done:
            return
        unit.is_owned = True
        self._use(unit, use)

    def _finish(self, unit: StoredUnit) -> None:
        unit.is_done, unit.is_owned = True, False
        if unit.is_idle:
            self._end_use(unit)

    def note_gradient(self, number: int) -> None:
        """The engine has taken a parameter's gradient."""
        unit = self._by_number.get(number)
        if unit is None:
            return
        unit.left.discard(number)
        if not unit.left and unit.is_owned:
            self._finish(unit)

    def end_backward(self) -> None:
        """No backward pass is running any more."""
        self.backwards += 1
        for unit in self._used:
            unit.is_owned = False
            unit.calls = 0
        self._end_idle([])

    def begin_forward(self) -> None:
        """Before a forward pass of the whole model: what an exception has left half done counts no more."""
        for unit in self._used:
            unit.uses = 0
        self.end_backward()
        self._forward_use = self._use_of_forward()

    def end_forward(self) -> None:
        self._forward_use = None
        self._end_idle([])

    def evict_idle(self) -> None:
        """What parameters have become is not in memory: those that no module is using leave it."""
        for unit in self._units.values():
            if unit.is_live and unit.is_idle:
                self._give_up(unit)

    def _use(self, unit: StoredUnit, use: Use) -> None:
        if unit.is_used:
            return
        if not unit.is_live and use is not Use.ACCESS:
            for number in self._native.make_room(unit.number):
                self._units[number].free()
        unit.use(use)
        self._used.add(unit)

    def _end_use(self, unit: StoredUnit) -> None:
        unit.end_use()
        self._used.discard(unit)

    def _give_up(self, unit: StoredUnit) -> None:
        unit.give_up()
        self._used.discard(unit)

    def _end_idle(self, but: list[StoredUnit]) -> None:
        for unit in [unit for unit in self._used if unit.is_idle and unit not in but]:
            self._end_use(unit)

    # ---- All at once ----

    def _room(self) -> int:
        available = self._native.describe().get("host_available_bytes", 0) if self._units else 0
        return int(0.9 * available)

    @contextlib.contextmanager
    def gathered(self, tensors: Iterable[Tensor]) -> Iterator[list[Parameter]]:
        """Has the units of these parameters in memory, whatever limits say; gives the parameters."""
        wanted = {id(tensor) for tensor in tensors}
        units = list(dict.fromkeys(unit for key, unit in self._unit_of.items() if key in wanted))
        for unit in units:
            unit.gathers += 1
            self._use(unit, Use.ACCESS)
        try:
            yield [member for unit in units for member in unit.members if id(member.tensor) in wanted]
        finally:
            for unit in units:
                unit.gathers -= 1
                if unit.is_idle:  # the program may have changed what it saw
                    self._give_up(unit)

    def move_out(self) -> None:
        """Gives every parameter memory of torch's own with its values, where they fit and the engine can say them."""
        units = [unit for unit in self._units.values() if unit.has_the_only_values]
        whole, room = sum(unit.bytes for unit in units), self._room()
        if whole > room:
            _log.logger.warning(
                "close: the parameters that lived in the store (%d bytes) do not fit into memory (%d bytes are free): "
                "they are empty now; save a checkpoint before, and export weights from that",
                whole,
                room,
            )
            units.clear()
        try:
            for unit in units:
                unit.move_out()
        except OrlopError as error:
            _log.logger.warning(
                "close: %s; parameters that lived in the store are empty: load a checkpoint to go on", error
            )
        self._units.clear()


def _differentiable(values: Any) -> Iterator[Tensor]:
    for leaf in _pytree.tree_leaves(values):
        if isinstance(leaf, Tensor):
            if leaf.requires_grad:
                yield leaf
        elif is_dataclass(leaf):  # one that torch does not know
            yield from _differentiable(list(vars(leaf).values()))


def _before_gradient_of(tensor: Tensor, call: Callable[[Any], None]) -> None:
    """Calls once the gradient of a tensor is there, before it is used."""
    if tensor.grad_fn is None:
        tensor.register_hook(call)  # type: ignore[no-untyped-call]
    else:
        tensor.grad_fn.register_prehook(call)
