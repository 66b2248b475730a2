"""Parameters that the model has only while it uses them: units, brought and let go by hooks of its modules.

A module's units are used from before its forward, or before the gradient of its outputs is computed, until the next
module comes or the outermost one is done, in a backward pass until all their gradients have been taken. The engine then
says whether a unit of the store is evicted or stays in memory for its next use, which costs nothing.

A module also has what it was seen to use of others: parameters that it looked up in them, or that they returned to it.
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
from ._enums import UNIT_STORED, Plane, Use
from ._native import NativeEngine
from ._parameters import Parameter, uses_its_children
from ._unit import ResidentUnit, StoredUnit, Unit
from ._unit_memory import UnitMemory
from .errors import OrlopError

EXTERNAL = "_external_params"  # a module's attribute: parameters of others that it uses, by id, as DeepSpeed has it


def is_in_backward() -> bool:
    """Whether autograd is running on this thread."""
    return bool(torch._C._current_graph_task_id() != -1)


def note_external(module: nn.Module, tensor: Tensor) -> None:
    """Says on a module that it uses a parameter that is another's."""
    module.__dict__.setdefault(EXTERNAL, {})[id(tensor)] = tensor


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

    def __init__(self, owner: Units, units: list[Unit], inputs: list[Tensor]) -> None:
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


class _OwnParameters(dict[str, Any]):
    """A module's own parameters, which tells the units what is looked up."""

    def __init__(self, own: dict[str, Any], units: Units) -> None:
        super().__init__(own)
        self._units = units

    def __getitem__(self, name: str) -> Any:
        tensor = super().__getitem__(name)
        self._units.note_access(tensor)
        return tensor

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)


class Units:
    """All units of a model, and the hooks that bring them."""

    def __init__(self, native: NativeEngine) -> None:
        self._units: dict[int, StoredUnit] = {}
        self._resident: list[ResidentUnit] = []
        self._used: set[Unit] = set()
        self._unit_of: dict[int, Unit] = {}  # by id of the tensor
        self._by_number: dict[int, Unit] = {}  # by the engine's id of the parameter
        self.backwards = 0  # passes so far
        self._forward_use: Use | None = None  # of the whole model's forward, while there is one
        self._running: list[nn.Module] = []  # in their forward, the innermost last
        self._handles: list[Any] = []
        self._looked_at: list[nn.Module] = []  # those that tell what is looked up in them
        self._native = native
        self._memory = UnitMemory()
        self._units_of: dict[nn.Module, list[Unit]] = {}

    def take(self, parameters: list[Parameter]) -> None:
        """Gives the engine those that are to live in the store."""
        places = [(parameter, *self._native.place(parameter.number)) for parameter in parameters]
        stored = [place for place in places if self._native.unit(place[1]).flags & UNIT_STORED]
        if stored:
            _heap.give_back_from_now_on()  # or units' memory, not used yet, would be pieces that have been
        for parameter, number, first in stored:
            parameter.give_values(self._native)
            if number not in self._units:
                self._units[number] = StoredUnit(self._native, number, parameter.tensor.device, self._memory)
            self._units[number].add(parameter, first, self)
            self._note(parameter, self._units[number])
        for unit in self._units.values():
            unit.empty()
        largest = max((unit.bytes for unit in self._units.values()), default=0)
        self._memory.limit(self._native.stats().live_limit_bytes, largest)

    def scatter(self, parameters: Iterable[Parameter]) -> None:
        """Lets these, which are views of the engine's memory, look empty between their uses, and all of the store."""
        for stored in self._units.values():
            stored.hides = True
        for parameter in parameters:
            unit = ResidentUnit(parameter, self)
            self._resident.append(unit)
            self._note(parameter, unit)

    def attach(self, model: nn.Module) -> None:
        """When all are there: gives the model's modules hooks that bring them."""
        if not self:
            return
        self._find_in(model)
        self.attach_hooks()
        for module in model.modules():
            if any(id(tensor) in self._unit_of for tensor in module._parameters.values()):
                module._parameters = _OwnParameters(module._parameters, self)
                self._looked_at.append(module)
        hook = _Hook(self._before_state_dict)
        self._handles.append(model.register_state_dict_pre_hook(hook))  # type: ignore[no-untyped-call]

    def attach_hooks(self) -> list[Any]:
        """Gives modules the hooks that bring their units; for a program that takes them off for a while, their handles.

        Without them a forward finds what is gathered.
        """
        first = len(self._handles)
        for module in self._units_of:
            self._attach_to(module)
        return self._handles[first:]

    def _note(self, parameter: Parameter, unit: Unit) -> None:
        self._unit_of[id(parameter.tensor)] = self._by_number[parameter.number] = unit

    def _find_in(self, module: nn.Module) -> bool:
        """Finds the units of a module and of those in it. False where there are none."""
        recurse = uses_its_children(module)
        tensors = [*module.parameters(recurse), *getattr(module, EXTERNAL, {}).values()]
        units = [unit for tensor in tensors if (unit := self._unit_of.get(id(tensor))) is not None]
        is_within = [self._find_in(child) for child in module.children() if not recurse]
        if units or any(is_within):
            self._units_of[module] = list(dict.fromkeys(units))
        return module in self._units_of

    def _all(self) -> Iterator[Unit]:
        yield from self._units.values()
        yield from self._resident

    def __bool__(self) -> bool:
        return bool(self._units or self._resident)

    def is_of(self, tensor: Tensor) -> bool:
        """Whether a parameter is in a unit."""
        return id(tensor) in self._unit_of

    def has(self, parameter: Parameter) -> bool:
        return parameter.number in self._by_number

    def is_stored(self, parameter: Parameter) -> bool:
        """Whether it lives in the store."""
        return isinstance(self._by_number.get(parameter.number), StoredUnit)

    def is_replaced(self, parameter: Parameter) -> bool:
        """Whether a program has given a parameter other memory."""
        return self._by_number[parameter.number].is_replaced(parameter)

    def unexpected_uses(self) -> dict[str, int]:
        """Uses that came in another order than the pass before had shown, by the module that has the parameters."""
        counts: dict[str, int] = {}
        for number, about in enumerate(self._native.describe()["units"] if self._units else []):
            if number in self._units and (count := about["uses"]["unexpected"]):
                name = self._units[number].module
                counts[name] = counts.get(name, 0) + count
        return counts

    # ---- Parameters of other modules ----

    def register_external(self, module: nn.Module, tensor: Tensor) -> Unit | None:
        """Lets a module have a parameter that it uses, but that is another module's; None: it has it already."""
        unit = self._unit_of.get(id(tensor))
        if unit is None:
            return None
        if module not in self._units_of:
            self._units_of[module] = []
            self._attach_to(module)
        if unit in self._units_of[module]:
            return None
        note_external(module, tensor)
        self._units_of[module].append(unit)
        return unit

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def note_access(self, tensor: Any) -> None:
        """A parameter is looked up: whatever runs uses it from now on."""
        if not self._running or tensor is None:
            return
        unit = self._unit_of.get(id(tensor))
        if unit is None or unit.uses or unit.is_owned:
            return
        self._use_also(self._running[-1], tensor)

    def _use_also(self, module: nn.Module, tensor: Tensor) -> None:
        """A module in the middle of its forward turns out to use a parameter."""
        unit = self.register_external(module, tensor)
        if unit is None:
            return
        if is_in_backward():
            self._own(unit, Use.RECOMPUTE)
        else:
            unit.uses += 1
            self._use(unit, self._use_of_forward())

    # ---- Hooks ----

    def _attach_to(self, module: nn.Module) -> None:
        before = module.register_forward_pre_hook(_Hook(self._before), prepend=True)
        after = module.register_forward_hook(_Hook(self._after), with_kwargs=True, always_call=True)
        self._handles += [before, after]

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        for module in self._looked_at:
            module._parameters = dict(module._parameters)
        self._handles.clear()
        self._looked_at.clear()

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _before(self, module: nn.Module, _args: Any) -> None:
        units = self._units_of[module]
        self._running.append(module)
        if units:
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
        self._end_running(module)
        units = self._units_of[module]
        if is_in_backward():
            return
        for unit in units:
            unit.uses = max(0, unit.uses - 1)
        outputs = list(_tensors_in(output))
        for tensor in outputs:
            if self._running and id(tensor) in self._unit_of:  # whoever gets it may use it
                self._use_also(self._running[-1], tensor)
        if units and torch.is_grad_enabled():
            inputs = _differentiable(_tensors_in((args, kwargs)))
            _Call(self, units, inputs).watch(_differentiable(outputs))
        if not self._running:
            self._end_idle([])

    def _end_running(self, module: nn.Module) -> None:
        """A module's forward is over, and those of modules it called that an early stop has left behind."""
        for place in reversed(range(len(self._running))):
            if self._running[place] is module:
                del self._running[place:]
                return

    def _before_state_dict(self, _module: nn.Module, _prefix: str, keep_vars: bool) -> None:
        gone = [member.name for unit in self._all() if not unit.is_shown for member in unit.members]
        if gone and not keep_vars:  # else it is the engine's own
            _log.logger.warning(
                "state_dict: on %s and %d more: the model has their values only while it uses them, and the state has "
                "empty tensors for them: call engine.module_state_dict() or save_checkpoint(), or gather them with "
                "orlop.zero.GatheredParameters",
                gone[0],
                len(gone) - 1,
            )

    def own_for(self, units: list[Unit]) -> None:
        """A backward pass comes to a module with these units."""
        self._end_idle(units)
        for unit in units:
            self._own(unit, Use.BACKWARD)

    def _own(self, unit: Unit, use: Use) -> None:
        """Holds a unit until this backward pass has its gradients."""
        if unit.backward != self.backwards or (use is Use.RECOMPUTE and unit.is_done):
            unit.begin_backward(self.backwards)
        if unit.is_done:
            return
        unit.is_owned = True
        self._use(unit, use)

    def _finish(self, unit: Unit) -> None:
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
        self._running.clear()
        self.end_backward()
        self._forward_use = self._use_of_forward()

    def end_forward(self) -> None:
        self._forward_use = None
        self._end_idle([])

    def evict_idle(self) -> None:
        """What parameters have become is not in memory: those that no module is using leave it."""
        for unit in self._all():
            if unit.is_live and unit.is_idle:
                self._give_up(unit)

    def _use(self, unit: Unit, use: Use) -> None:
        if unit.is_used:
            return
        if isinstance(unit, StoredUnit) and not unit.is_live and use is not Use.ACCESS:
            for number in self._native.make_room(unit.number):
                self._units[number].free()
        unit.use(use)
        self._used.add(unit)

    def _end_use(self, unit: Unit) -> None:
        unit.end_use()
        self._used.discard(unit)

    def _give_up(self, unit: Unit) -> None:
        unit.give_up()
        self._used.discard(unit)

    def _end_idle(self, but: list[Unit]) -> None:
        for unit in [unit for unit in self._used if unit.is_idle and unit not in but]:
            self._end_use(unit)

    # ---- All at once ----

    def _room(self) -> int:
        available = self._native.describe().get("host_available_bytes", 0) if self._units else 0
        return int(0.9 * available)

    @contextlib.contextmanager
    def gathered(self, tensors: Iterable[Tensor]) -> Iterator[None]:
        """Has the units of these parameters in memory, whatever limits say."""
        found = [self._unit_of.get(id(tensor)) for tensor in tensors]
        units = list(dict.fromkeys(unit for unit in found if unit is not None))
        for unit in units:
            self._begin_gather(unit)
        try:
            yield
        finally:
            for unit in units:
                self._end_gather(unit)

    def hold(self, tensor: Tensor) -> None:
        """Has the unit of a parameter in memory until `let_go`."""
        if (unit := self._unit_of.get(id(tensor))) is not None:
            self._begin_gather(unit)

    def let_go(self, tensor: Tensor, keeps_changes: bool) -> None:
        """Undoes one `hold`."""
        unit = self._unit_of.get(id(tensor))
        if unit is None:
            return
        for member in unit.members if keeps_changes else ():
            if member.tensor is tensor:
                member.write(self._native, Plane.PARAM, tensor)
        self._end_gather(unit)

    def _begin_gather(self, unit: Unit) -> None:
        unit.gathers += 1
        self._use(unit, Use.ACCESS)

    def _end_gather(self, unit: Unit) -> None:
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
            for unit in [*units, *self._resident]:
                unit.move_out()
        except OrlopError as error:
            _log.logger.warning(
                "close: %s; parameters that lived in the store are empty: load a checkpoint to go on", error
            )
        self._units.clear()
        self._resident.clear()
        self._unit_of.clear()


def _tensors_in(values: Any) -> Iterator[Tensor]:
    for leaf in _pytree.tree_leaves(values):
        if isinstance(leaf, Tensor):
            yield leaf
        elif is_dataclass(leaf):  # one that torch does not know
            yield from _tensors_in(list(vars(leaf).values()))


def _differentiable(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Those whose gradients pass through here. A parameter's come from elsewhere, too, and a hook on it stays."""
    return [tensor for tensor in tensors if tensor.requires_grad and not isinstance(tensor, nn.Parameter)]


def _before_gradient_of(tensor: Tensor, call: Callable[[Any], None]) -> None:
    """Calls once the gradient of a tensor is there, before it is used."""
    if tensor.grad_fn is None:
        tensor.register_hook(call)  # type: ignore[no-untyped-call]
    else:
        tensor.grad_fn.register_prehook(call)
