"""Units: parameters that have their values in the model while modules use them, and are empty tensors in between.

A `StoredUnit` is what the engine fetches from the store at once. Its memory is one torch storage that is resized to
nothing when the unit is evicted, and its parameters are empty meanwhile: tensors that autograd has saved keep referring
to the storage, and find the values again when the backward pass has fetched the unit anew.

A `ResidentUnit` is one parameter whose values never leave the engine's memory: the program alone does not see them in
between, as programs for stage 3 expect. Nothing is copied.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ._dtypes import TORCH_TYPES
from ._enums import UNIT_FROZEN, DType, Use
from ._native import NativeEngine
from ._parameters import Parameter
from ._parked import parked
from ._partitioned import Holder, in_a_file, mark, note_status
from ._unit_memory import UnitMemory


class Unit:
    """What is there together, and who uses it."""

    def __init__(self, is_frozen: bool) -> None:
        self.is_frozen = is_frozen
        self.members: list[Parameter] = []
        self.is_live = False  # its values are in memory that they are computed with
        self.is_shown = False  # its parameters have them
        self.hides = False  # its parameters look empty while it is kept for its next use, too
        self.is_used = False
        self.uses = 0  # modules in whose forward it is
        self.gathers = 0
        self.is_owned = False  # by a backward pass
        self.is_done = False  # that backward pass needs it no more
        self.backward = -1  # the number of that pass
        self.left: set[int] = set()  # parameters whose gradient it has not taken
        self.calls = 0  # of frozen modules, which it is in the middle of
        self._views: list[Tensor] = []
        self._gone: Tensor

    @property
    def module(self) -> str:
        """The name of the module that has its first parameter."""
        return self.members[0].name.rpartition(".")[0]

    @property
    def is_idle(self) -> bool:
        return self.uses == 0 and self.gathers == 0 and not self.is_owned

    @property
    def has_the_only_values(self) -> bool:
        """False while those of all its members still wait in a file, too."""
        return any(parked(parameter.tensor) is None for parameter in self.members)

    def use(self, use: Use) -> None:
        """Begins a use. Memory for the unit has been made room for."""
        self._begin(use)
        self.is_used = self.is_live = True
        if not self.is_shown:
            self.is_shown = True
            for parameter, view in zip(self.members, self._views, strict=True):
                parameter.tensor.data = view
                note_status(parameter.tensor)

    def end_use(self) -> None:
        """Stays in memory if the engine says so."""
        self.is_used = False
        if not self._stays():
            self.free()
        elif self.hides:
            self._hide()

    def give_up(self) -> None:
        """Is in memory no more, whatever the engine had planned."""
        if not self.is_live:
            return
        self.is_used = False
        self._end_now()
        self.free()

    def free(self) -> None:
        """The engine counts the unit as evicted."""
        self._hide()
        self.is_live = False

    def _hide(self) -> None:
        for parameter in self.members:
            parameter.tensor.data = self._gone
            note_status(parameter.tensor)
        self.is_shown = False

    def begin_backward(self, number: int) -> None:
        self.backward = number
        self.is_done = False
        self.left = set() if self.is_frozen else {parameter.number for parameter in self.members}

    def is_replaced(self, parameter: Parameter) -> bool:
        """Whether a program has given a parameter other memory while the unit was in none."""
        tensor = parameter.tensor
        has_moved = tensor.dtype != self._gone.dtype or tensor.device != self._gone.device
        return has_moved or (not self.is_shown and tensor.numel() > 0)

    def move_out(self) -> None:
        """Leaves the engine: its parameters get memory of their own."""
        raise NotImplementedError

    def _begin(self, use: Use) -> None:
        raise NotImplementedError

    def _stays(self) -> bool:
        raise NotImplementedError

    def _end_now(self) -> None:
        raise NotImplementedError


class StoredUnit(Unit):
    """Parameters that are fetched from the store and given up together."""

    def __init__(self, native: NativeEngine, number: int, device: torch.device, memory: UnitMemory) -> None:
        info = native.unit(number)
        super().__init__(bool(info.flags & UNIT_FROZEN))
        self.number = number
        self._native = native
        self._memory = memory
        with torch.inference_mode(False):
            self._flat = torch.empty(info.elements, dtype=TORCH_TYPES[DType(info.dtype)], device=device)
            self._gone = torch.empty(0, dtype=self._flat.dtype, device=device)
        self.bytes = self._flat.untyped_storage().nbytes()

    def add(self, parameter: Parameter, first: int, holder: Holder) -> None:
        """Makes a parameter, which begins at an element of the unit, one of its members, and lets go of its memory."""
        self.members.append(parameter)
        with torch.inference_mode(False):
            self._views.append(self._flat[first : first + parameter.numel].view(parameter.shape))
        parameter.tensor.data = self._gone
        mark(parameter.tensor, parameter.shape, in_a_file(parameter.numel, self._gone.dtype), holder)

    def empty(self) -> None:
        """When all members are there."""
        self._flat.untyped_storage().resize_(0)

    def free(self) -> None:
        super().free()
        self._memory.take_back(self._flat.untyped_storage())

    def move_out(self) -> None:
        self.use(Use.ACCESS)
        for parameter in self.members:
            parameter.tensor.data = parameter.tensor.data.clone()
        self._native.give_up(self.number)
        self._views.clear()
        self._flat = self._gone  # what a program still refers to stays

    def _begin(self, use: Use) -> None:
        if not self.is_live:
            self._memory.give(self._flat.untyped_storage(), self.bytes)
        stream = torch.cuda.current_stream(self._flat.device).cuda_stream if self._flat.is_cuda else 0
        self._native.unshard(self.number, use, self._flat.data_ptr(), stream)

    def _stays(self) -> bool:
        return self._native.reshard(self.number)

    def _end_now(self) -> None:
        self._native.give_up(self.number)


class ResidentUnit(Unit):
    """A parameter that is a view of the engine's memory, and looks empty in between."""

    def __init__(self, parameter: Parameter, holder: Holder) -> None:
        super().__init__(parameter.is_frozen)
        self.members.append(parameter)
        view = parameter.tensor.data
        self._views.append(view)
        with torch.inference_mode(False):
            self._gone = torch.empty(0, dtype=view.dtype, device=view.device)
        mark(parameter.tensor, parameter.shape, view.view(-1), holder)
        self.free()

    def is_replaced(self, parameter: Parameter) -> bool:
        has_moved = self.is_shown and parameter.tensor.data_ptr() != parameter.address
        return has_moved or super().is_replaced(parameter)

    def move_out(self) -> None:
        self.use(Use.ACCESS)  # the parameter itself moves out then

    def _begin(self, use: Use) -> None:
        """It is there."""

    def _stays(self) -> bool:
        return False

    def _end_now(self) -> None:
        """Nothing is to be told."""
