"""Where checkpoints keep the inputs that they compute again from: in host memory, in one buffer, or each rank a part.

Autograd saves a checkpoint's inputs through the hooks that `KeptInputs.hooks` gives, and gets them back through them
when a backward pass comes to it. Only floating-point tensors are taken anywhere: others are small, and often needed
where they are.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from . import _log
from ._abi import HostPoolUse
from ._copies import Copies, copies_for
from ._host_pool import HostPool
from .errors import NoMemoryError, OutOfOrderError

LEAST_BYTES = 1024  # moving what is smaller costs more than its memory is worth

Key = tuple[torch.device, torch.dtype, int]  # device, type and elements of tensors that fit into the same slots


@dataclass(frozen=True)
class Settings:
    """What the block activation_checkpointing says."""

    partition_activations: bool = False
    contiguous_checkpointing: bool = False
    num_checkpoints: int | None = None
    checkpoint_in_cpu: bool = False
    synchronize: bool = False
    profile: bool = False


@dataclass(frozen=True)
class Group:
    """The ranks that have the same activations, as those of a model-parallel group do."""

    size: int = 1
    rank: int = 0
    process_group: Any = None


class Kept(Protocol):
    """One tensor that waits to be needed again."""

    def bring(self) -> Tensor: ...


class Room(Protocol):
    """Where tensors wait."""

    def next_call(self) -> Any:
        """What the tensors of one checkpoint have in common."""

    def keep(self, tensor: Tensor, call: Any) -> Kept: ...


class KeptInputs:
    """Keeps tensors as the settings say."""

    def __init__(self, settings: Settings, group: Group, host_limit: Callable[[], int]) -> None:
        """`host_limit`: asked once, the most bytes of host memory to take; 0: what there is."""
        self._group = group if settings.partition_activations and group.size > 1 else None
        count = settings.num_checkpoints if settings.contiguous_checkpointing else None
        self._room: Room = InPlace()
        if settings.checkpoint_in_cpu:
            self._room = OnHost(host_limit, count)
        elif count is not None:
            self._room = Buffers(count)

    def hooks(self, inputs: list[Any]) -> contextlib.AbstractContextManager[Any]:
        """Around one checkpoint: what autograd saves inside, of its inputs, is kept here."""
        if self._group is None and isinstance(self._room, InPlace):
            return contextlib.nullcontext()
        stay = {_storage(value) for value in inputs if isinstance(value, nn.Parameter)}  # they are in memory anyway
        call = self._room.next_call()

        def pack(tensor: Tensor) -> Kept:
            if _storage(tensor) in stay or not _is_worth_moving(tensor):
                return KeptInPlace(tensor)
            return Strided(self._keep(tensor, call), tensor.stride())

        return torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.bring())

    def _keep(self, tensor: Tensor, call: Any) -> Kept:
        if self._group is None:
            return self._room.keep(tensor, call)
        return Parted(self._room.keep(_part_of(tensor, self._group), call), tensor.shape, self._group)

    def use(self) -> dict[str, int]:
        """Bytes of host memory: taken from the system, lent now, and the most that were."""
        use = self._room.use() if isinstance(self._room, OnHost) else None
        names = ("host_bytes", "used_bytes", "peak_bytes")
        return {name: 0 if use is None else int(getattr(use, name)) for name in names}


class InPlace:
    """Keeps tensors where they are."""

    def next_call(self) -> None: ...

    def keep(self, tensor: Tensor, _call: None) -> Kept:
        return KeptInPlace(tensor)


class KeptInPlace:
    """A tensor that stays where it is, and must not be changed meanwhile."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._version = tensor, tensor._version

    def bring(self) -> Tensor:
        if self._tensor._version != self._version:
            raise OutOfOrderError(
                f"checkpoint: on an input of shape {tuple(self._tensor.shape)}: it was changed in place since, and the "
                "checkpoint cannot be computed again from it: change a copy"
            )
        return self._tensor


class Strided:
    """A tensor that comes back with the strides that it had: kernels add in an order that depends on them."""

    def __init__(self, kept: Kept, stride: tuple[int, ...]) -> None:
        self._kept, self._stride = kept, stride

    def bring(self) -> Tensor:
        tensor = self._kept.bring()
        if tensor.stride() == self._stride:
            return tensor
        strided = torch.empty_strided(tensor.shape, self._stride, dtype=tensor.dtype, device=tensor.device)
        return strided.copy_(tensor)


def _is_worth_moving(tensor: Tensor) -> bool:
    """Not where elements share memory, either: that is less than it seems."""
    is_expanded = any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True))
    return tensor.is_floating_point() and tensor.nbytes >= LEAST_BYTES and not is_expanded


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


# ---- Host memory ----


class Call:
    """What one checkpoint keeps. Backward passes need the calls in reverse: each brings what the one before kept."""

    def __init__(self, before: Call | None) -> None:
        self._before = None if before is None else weakref.ref(before)
        self._kept: list[weakref.ref[KeptOnHost]] = []

    def add(self, kept: KeptOnHost) -> None:
        self._kept.append(weakref.ref(kept))

    def fetch_before(self) -> None:
        before = None if self._before is None else self._before()
        for reference in [] if before is None else before._kept:
            if (kept := reference()) is not None:
                kept.prefetch()


class KeptOnHost:
    """One tensor's copy in host memory."""

    def __init__(self, owner: OnHost, copies: Copies, host: Tensor, device: torch.device, mark: Any) -> None:
        self._owner, self._copies, self._host, self._device = owner, copies, host, device
        self._written = self._last = mark  # its copy to the host; the last copy of any kind
        self._fetched: tuple[Tensor, Any] | None = None
        self._was_brought = False

    def prefetch(self) -> None:
        """Begins the copy back, unless a pass has had the tensor already."""
        if not self._was_brought:
            self._fetch()

    def _fetch(self) -> tuple[Tensor, Any]:
        if self._fetched is None:
            self._fetched = self._copies.back(self._host, self._written, self._device)
            self._last = self._fetched[1]
        return self._fetched

    def bring(self) -> Tensor:
        tensor, mark = self._fetch()
        self._fetched, self._was_brought = None, True
        self._copies.join(tensor, mark)
        return tensor

    def __del__(self) -> None:
        self._owner.retire(self._copies, self._last, self._host)


class KeptForCall:
    """A kept tensor as one checkpoint has it; another that was given the same tensor shares the copy."""

    def __init__(self, kept: KeptOnHost, call: Call) -> None:
        self._kept, self._call = kept, call

    def bring(self) -> Tensor:
        tensor = self._kept.bring()
        self._call.fetch_before()
        return tensor


class OnHost:
    """Keeps tensors of a GPU in a pool of host memory. Those of the CPU are there already, and stay where they are."""

    keeps_host_tensors = False
    """For tests on a machine without a GPU: tensors of the CPU are copied as well."""

    def __init__(self, limit: Callable[[], int], reserved_count: int | None) -> None:
        """`reserved_count`: room for so many tensors of a size is made when the first of it comes."""
        self._limit, self._reserved_count = limit, reserved_count
        self._pool: HostPool | None = None
        self._copies: dict[torch.device, Copies] = {}
        self._last_call: weakref.ref[Call] | None = None
        self._retired: deque[tuple[Copies, Any, Tensor]] = deque()  # memory that a copy may still be reading
        self._shared: dict[tuple[Any, ...], tuple[StorageWeakRef, weakref.ref[KeptOnHost]]] = {}
        self._reserved: set[int] = set()
        self._has_noted = False

    def next_call(self) -> Call:
        call = Call(None if self._last_call is None else self._last_call())
        self._last_call = weakref.ref(call)
        return call

    def keep(self, tensor: Tensor, call: Call) -> Kept:
        if tensor.device.type == "cpu" and not self.keeps_host_tensors:
            self._note_host_tensors()
            return KeptInPlace(tensor)
        kept = self._found(tensor)
        if kept is None:
            kept = self._copied(tensor)
        call.add(kept)
        return KeptForCall(kept, call)

    def _note_host_tensors(self) -> None:
        if not self._has_noted:
            self._has_noted = True
            _log.logger.info(
                "checkpointing: on cpu_checkpointing: the activations are the CPU's, in host memory already: they stay "
                "where they are"
            )

    def _found(self, tensor: Tensor) -> KeptOnHost | None:
        """The copy of the very same values, if there is one: a mask is an input of every layer."""
        storage, reference = self._shared.get(_identity(tensor), (None, None))
        if storage is None or reference is None or storage.expired():  # type: ignore[no-untyped-call]
            return None
        return reference()

    def _copied(self, tensor: Tensor) -> KeptOnHost:
        if tensor.device not in self._copies:
            self._copies[tensor.device] = copies_for(tensor.device)
        copies = self._copies[tensor.device]
        host = self._memory_like(tensor)
        kept = KeptOnHost(self, copies, host, tensor.device, copies.out(tensor, host))
        self._forget_shared()
        storage = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
        self._shared[_identity(tensor)] = storage, weakref.ref(kept)
        return kept

    def _forget_shared(self) -> None:
        gone = [key for key, (_, kept) in self._shared.items() if kept() is None]
        for key in gone:
            del self._shared[key]

    def _memory_like(self, tensor: Tensor) -> Tensor:
        self._release(wait=False)
        layout = torch.empty_like(tensor, device="meta")  # dense, in the tensor's own order of dimensions
        self._reserve(tensor)
        try:
            flat = self._pool_for(tensor.device).empty([tensor.numel()], tensor.dtype)
        except NoMemoryError:
            if not self._retired:
                raise
            self._release(wait=True)
            flat = self._pool_for(tensor.device).empty([tensor.numel()], tensor.dtype)
        return flat.as_strided(layout.shape, layout.stride())

    def _reserve(self, tensor: Tensor) -> None:
        """Has the pool take room for all tensors of this size at once."""
        if self._reserved_count is None or tensor.nbytes in self._reserved:
            return
        self._reserved.add(tensor.nbytes)
        self._pool_for(tensor.device).empty([self._reserved_count * tensor.nbytes], torch.uint8)

    def _pool_for(self, device: torch.device) -> HostPool:
        if self._pool is None:
            self._pool = HostPool(device, self._limit())
        return self._pool

    def retire(self, copies: Copies, mark: Any, host: Tensor) -> None:
        """The memory is free when its last copy has ended."""
        if not copies.is_done(mark):
            self._retired.append((copies, mark, host))

    def _release(self, wait: bool) -> None:
        while self._retired:
            copies, mark, _ = self._retired[0]
            if wait:
                copies.wait(mark)
            elif not copies.is_done(mark):
                return
            self._retired.popleft()

    def use(self) -> HostPoolUse | None:
        return None if self._pool is None else self._pool.use()

    def __del__(self) -> None:
        self._release(wait=True)


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    """Equal for tensors of the same values, as long as their storage is there."""
    return _storage(tensor), tensor._version, tensor.dtype, tensor.storage_offset(), tensor.shape, tensor.stride()


# ---- One buffer ----


class Buffers:
    """Keeps tensors in buffers that are made once, for those of `count` checkpoints: memory is not fragmented."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free: dict[Key, list[Tensor]] = {}  # slots
        self._slots: Counter[Key] = Counter()  # that a checkpoint has
        self._has_warned = False

    def next_call(self) -> Counter[Key]:
        return Counter()

    def keep(self, tensor: Tensor, call: Counter[Key]) -> Kept:
        key = tensor.device, tensor.dtype, tensor.numel()
        call[key] += 1
        if call[key] > self._slots[key]:
            buffer = torch.empty((self._count, tensor.numel()), dtype=tensor.dtype, device=tensor.device)
            self._free.setdefault(key, []).extend(buffer.unbind(0))
            self._slots[key] += 1
        if not self._free[key]:
            self._warn(tensor)
            return KeptInPlace(tensor)
        return KeptInBuffer(tensor, self._free[key])

    def _warn(self, tensor: Tensor) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.logger.warning(
                "checkpointing: on number_checkpoints (%d): inputs of more checkpoints, of shape %s, are kept at once: "
                "they stay where they are; raise it",
                self._count,
                tuple(tensor.shape),
            )


class KeptInBuffer:
    """One slot of a buffer."""

    def __init__(self, tensor: Tensor, free: list[Tensor]) -> None:
        self._free, self._slot = free, free.pop()
        layout = torch.empty_like(tensor, device="meta")
        self._values = self._slot.as_strided(layout.shape, layout.stride(), self._slot.storage_offset())
        self._values.copy_(tensor)

    def bring(self) -> Tensor:
        return self._values.clone()  # what is computed from it may outlive the slot

    def __del__(self) -> None:
        self._free.append(self._slot)


# ---- Parts ----


class Parted:
    """A rank's part of a tensor that every rank of a group had whole."""

    def __init__(self, part: Kept, shape: torch.Size, group: Group) -> None:
        self._part, self._shape, self._group = part, shape, group

    def bring(self) -> Tensor:
        part = self._part.bring()
        parts = [torch.empty_like(part) for _ in range(self._group.size)]
        dist.all_gather(parts, part, group=self._group.process_group)
        return torch.cat(parts)[: self._shape.numel()].view(self._shape)


def _part_of(tensor: Tensor, group: Group) -> Tensor:
    """The rank's part: of equal length on all ranks, filled up with zeros at the end."""
    flat = tensor.reshape(-1)
    length = -(-flat.numel() // group.size)
    part = flat.new_zeros(length)
    mine = flat[group.rank * length : (group.rank + 1) * length]
    part[: mine.numel()] = mine
    return part
