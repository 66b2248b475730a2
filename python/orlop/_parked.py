"""Parameters whose values wait elsewhere: empty tensors with a shape, until they are brought or an engine has them.

They wait in a file, or in memory that only the parameter itself does not show.
"""

from __future__ import annotations

import contextlib
import ctypes
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ._dtypes import DTYPES
from ._partitioned import in_a_file, mark, mark_whole, refuse_change
from ._scratch import PIECE_BYTES, Place
from .errors import OutOfOrderError


class Source(Protocol):
    """Where values can be read from, any number of times."""

    def pieces(self) -> Iterator[memoryview]:
        """All their bytes in order; each piece but the last has PIECE_BYTES, and is valid until the next."""


@contextlib.contextmanager
def plain_torch() -> Iterator[None]:
    """Whatever modes a program is in, tensors made inside are real ones that can be trained."""
    with torch._C.DisableTorchFunction(), torch.inference_mode(False), torch.no_grad():
        yield


class InMemory:
    """Values that stay where they are."""

    def __init__(self, values: Tensor) -> None:
        self.values = values.reshape(-1)

    def pieces(self) -> Iterator[memoryview]:
        """As a source's."""
        count = PIECE_BYTES // self.values.element_size()
        for first in range(0, self.values.numel(), count):
            piece = self.values[first : first + count].cpu()
            yield bytes_of(piece)


Keep = Callable[[Tensor], Source] | None  # puts values away; None: they stay with their parameter


class Parked:
    """What a parameter carries whose values are elsewhere, or may go there."""

    def __init__(self, parameter: nn.Parameter, keep: Keep) -> None:
        self.shape, self.dtype, self.device = parameter.shape, parameter.dtype, parameter.device
        self.is_away = False
        self.gathers = 0  # blocks that want it in memory
        self.wanted: torch.dtype | None = None  # what it is to become when the model is built
        self.checks_changes = False  # zero_optimization.enable_sanity_checks
        self._parameter = weakref.ref(parameter)
        self._keep = keep
        self._source: Source | None = None
        self._types: tuple[torch.dtype, ...] = ()  # of the source's bytes, and what they are converted to in turn
        carrier: Any = parameter
        carrier._orlop_parked, carrier.__deepcopy__ = self, self._copied
        self.mark()

    @property
    def numel(self) -> int:
        return self.shape.numel()

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize

    @property
    def may_leave(self) -> bool:
        return self._keep is not None

    @property
    def parameter(self) -> nn.Parameter | None:
        """None when the program has dropped it."""
        return self._parameter()

    def __reduce__(self) -> Any:
        if self.is_away:
            raise OutOfOrderError(
                f"save: on a parameter of shape {tuple(self.shape)}: its values are not in memory: gather them with "
                "orlop.zero.GatheredParameters, or save after orlop.initialize with engine.save_checkpoint"
            )
        return _nothing, ()

    def mark(self) -> None:
        """Gives the parameter the attributes of one that need not be whole."""
        parameter = self.parameter
        assert parameter is not None
        if isinstance(self._source, InMemory):
            part = self._source.values
        else:
            part = in_a_file(self.numel, self.wanted or self.dtype)
        mark(parameter, self.shape, part, self)

    # ---- Leaving memory, and coming back ----

    @plain_torch()
    def can_leave(self) -> bool:
        """Whether nobody but the parameter itself has its memory, where that is given back."""
        parameter = self.parameter
        if parameter is None or self._keep is None or self.gathers or self.is_away:
            return False
        is_plain = parameter.dtype in DTYPES and parameter.is_contiguous() and parameter.numel() > 0
        is_alone = self._keep is InMemory or _owners_of(parameter) == _OWNERS_OF_ONE
        return is_plain and not parameter.is_meta and is_alone

    @plain_torch()
    def leave(self) -> None:
        """Puts the values away."""
        parameter, keep = self._parameter(), self._keep
        assert parameter is not None and keep is not None
        self.shape, self.dtype, self.device = parameter.shape, parameter.dtype, parameter.device
        self._source = None  # what was written down before, which has its room for these
        self._source, self._types = keep(parameter.detach()), (self.dtype,)
        self._drop()

    @plain_torch()
    def take(self, source: Source, dtype: torch.dtype) -> None:
        """Lets the values be those of a source, whose bytes are of some type; they are converted to the parameter's."""
        parameter = self.parameter
        if not self.is_away and parameter is not None:
            self.shape, self.dtype, self.device = parameter.shape, parameter.dtype, parameter.device
        self._source, self._types = source, (dtype, self.dtype)
        self._drop()

    @plain_torch()
    def bring(self) -> None:
        """Has the values in memory."""
        if not self.is_away:
            return
        parameter = self.parameter
        assert parameter is not None
        if isinstance(self._source, InMemory):
            parameter.data = self._source.values.view(self.shape)
        else:
            parameter.data = self._read().to(self.device)
        self.is_away = False
        self.mark()

    def _read(self) -> Tensor:
        values = torch.empty(self.shape, dtype=self.dtype, device="cpu")
        flat = values.view(-1)
        for first, piece in self.pieces():
            flat[first : first + piece.numel()] = piece
        return values

    @plain_torch()
    def forget_changes(self) -> None:
        """Gives the memory back; the values are those that were brought."""
        if self._source is not None:
            self._drop()

    @plain_torch()
    def cast(self, dtype: torch.dtype) -> None:
        """Converts the parameter, wherever its values are."""
        parameter = self.parameter
        assert parameter is not None
        if self.is_away and dtype != self.dtype:
            self._types, self.dtype = (*self._types, dtype), dtype
            if isinstance(self._source, InMemory):
                self._source, self._types = InMemory(self._source.values.to(dtype)), (dtype,)
            self._drop()
        elif not self.is_away:
            parameter.data = parameter.data.to(dtype)
            self.dtype = dtype

    @property
    def place(self) -> Place | None:
        """Where on the drive the values are until an engine has them."""
        return self._source if isinstance(self._source, Place) else None

    def hold(self, tensor: Tensor) -> None:
        """Has the values in memory until `let_go`."""
        self.gathers += 1
        self.bring()

    def let_go(self, tensor: Tensor, keeps_changes: bool) -> None:
        """Undoes one `hold`."""
        self.gathers -= 1
        _end_gather(self, keeps_changes)

    def copied(self) -> tuple[Parked, Tensor]:
        """Itself, with a copy of the values that are in memory."""
        parameter = self.parameter
        assert parameter is not None
        return self, parameter.detach().clone()

    @plain_torch()
    def check_same(self, before: Tensor) -> None:
        """Takes a change of the values back, and raises OutOfOrderError if there was one."""
        parameter = self.parameter
        if parameter is not None and not torch.equal(parameter.detach(), before):
            parameter.data.copy_(before)
            refuse_change(f"a parameter of shape {tuple(self.shape)}")

    def pieces(self) -> Iterator[tuple[int, Tensor]]:
        """The values away from memory, as flat CPU tensors in order, each with the number of its first element."""
        assert self._source is not None
        first = 0
        for piece in self._source.pieces():
            values = torch.frombuffer(piece, dtype=self._types[0])
            for dtype in self._types[1:]:
                values = values.to(dtype)
            yield first, values
            first += values.numel()

    @plain_torch()
    def end(self) -> None:
        """An engine has the values, or they are in memory for good."""
        carrier: Any = self.parameter
        self._source = self._keep = None
        if carrier is None:
            return
        del carrier._orlop_parked, carrier.__deepcopy__
        if carrier._orlop_hold.is_of(self):  # else the engine has marked it
            mark_whole(carrier)

    def _drop(self) -> None:
        parameter = self.parameter
        assert parameter is not None
        parameter.data = torch.empty(0, dtype=self.dtype, device=self.device)
        self.is_away = True
        self.mark()

    @plain_torch()
    def _copied(self, memo: dict[int, Any]) -> nn.Parameter:
        """What copy.deepcopy makes of the parameter: one of the same values, in memory only if these are."""
        parameter = self.parameter
        assert parameter is not None
        if id(parameter) in memo:
            twin: nn.Parameter = memo[id(parameter)]
            return twin
        if self.can_leave():
            self.leave()
        twin = nn.Parameter(parameter.data.clone(), parameter.requires_grad)
        parked = Parked(twin, self._keep)
        parked.wanted, parked.checks_changes = self.wanted, self.checks_changes
        if self.is_away:
            source = InMemory(self._source.values.clone()) if isinstance(self._source, InMemory) else self._source
            parked.shape, parked._source, parked._types = self.shape, source, self._types
            parked._drop()
        memo[id(parameter)] = twin
        return twin


def parked_at(source: Source, dtype: torch.dtype, like: nn.Parameter, device: torch.device) -> nn.Parameter:
    """A parameter like one of the meta device whose values are those of a source, with bytes of some type."""
    twin = nn.Parameter(torch.empty(0, dtype=like.dtype, device=device), like.requires_grad)
    found = Parked(twin, None)
    found.shape, found._source, found._types = like.shape, source, (dtype, like.dtype)
    found._drop()
    return twin


def parked(tensor: Any) -> Parked | None:
    """What a parameter carries; None for tensors that are ordinary."""
    return tensor.__dict__.get("_orlop_parked") if isinstance(tensor, nn.Parameter) else None


def away(tensor: Any) -> Parked | None:
    """The same, of those alone whose values are not in memory."""
    found = parked(tensor)
    return found if found is not None and found.is_away else None


def shape_of(tensor: Tensor) -> torch.Size:
    """The shape of a parameter, wherever its values are."""
    found = away(tensor)
    return tensor.shape if found is None else found.shape


def convert(parameter: nn.Parameter, dtype: torch.dtype) -> None:
    """Gives a parameter another type, wherever its values are."""
    found = parked(parameter)
    if found is None:
        parameter.data = parameter.data.to(dtype)
    else:
        found.cast(dtype)


def bytes_on_drive(tensors: Iterable[Tensor]) -> int:
    """What values of these take in files of `zero.Init`, those of several parameters in one place once."""
    places = {found.place for tensor in tensors if (found := away(tensor)) is not None}
    return sum(place.bytes_on_drive for place in places if place is not None)


@contextlib.contextmanager
def gathered(tensors: Iterable[Tensor], keeps_changes: bool) -> Iterator[None]:
    """Has the values of those in memory that are away, inside the block."""
    brought = [found for tensor in tensors if (found := away(tensor)) is not None]
    for found in brought:
        found.gathers += 1
    try:
        for found in brought:
            found.bring()
        before = [found.copied() for found in brought if found.checks_changes and not keeps_changes]
        yield
        for found, values in before:
            found.check_same(values)
    finally:
        for found in brought:
            found.gathers -= 1
            _end_gather(found, keeps_changes)


def _end_gather(found: Parked, keeps_changes: bool) -> None:
    if found.gathers or found.is_away or found.parameter is None:
        return
    if not keeps_changes:
        found.forget_changes()
    elif found.can_leave():
        found.leave()


def bytes_of(values: Tensor) -> memoryview:
    """The memory of a contiguous CPU tensor."""
    return memoryview((ctypes.c_char * values.nbytes).from_address(values.data_ptr())).cast("B")


def _owners_of(tensor: Tensor) -> int:
    return torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)


_OWNERS_OF_ONE = _owners_of(torch.empty(1))


def _nothing() -> None:
    """What becomes of `Parked` in a pickled parameter."""


assert PIECE_BYTES % 8 == 0  # no element of a source is in two pieces
