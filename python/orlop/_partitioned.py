"""What programs for DeepSpeed look at on a parameter whose values need not be in the model between its uses.

`ds_id`, `ds_shape` and `ds_numel` say what it is; `ds_status`, `ds_tensor` and `ds_persist` where its values are now;
`all_gather()` has them in the model until `partition()`.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from enum import Enum
from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor

from .errors import OutOfOrderError


class ZeroParamStatus(Enum):
    """Whether a parameter's values are in the model."""

    AVAILABLE = 1
    NOT_AVAILABLE = 2
    INFLIGHT = 3


class Ids:
    """The numbers that parameters get in the order in which they are seen."""

    next = 0

    @classmethod
    def take(cls) -> int:
        cls.next += 1
        return cls.next - 1


class Holder(Protocol):
    """Who has a parameter's values while they are not in the model."""

    def hold(self, tensor: Tensor) -> None:
        """Has them in the model until `let_go`."""

    def let_go(self, tensor: Tensor, keeps_changes: bool) -> None:
        """Undoes one `hold`."""


class Hold:
    """A parameter's `all_gather` and `partition`; of a pickled parameter they do nothing."""

    def __init__(self, tensor: Tensor | None = None, holder: Holder | None = None) -> None:
        self._tensor = None if tensor is None else weakref.ref(tensor)
        self._holder = holder
        self._is_on = False

    def all_gather(
        self, param_list: Iterable[Tensor] | None = None, async_op: bool = False, hierarchy: int = 0
    ) -> None:
        """Has the parameter, or those of a list, in the model until `partition()`. Blocks until they are there."""
        for hold in self._all(param_list):
            hold._set(True, False)

    def partition(
        self,
        param_list: Iterable[Tensor] | None = None,
        backward: bool = False,
        hierarchy: int = 0,
        has_been_updated: bool = False,
    ) -> None:
        """Undoes `all_gather`; changes are kept if `has_been_updated`."""
        for hold in self._all(param_list):
            hold._set(False, has_been_updated)

    def is_of(self, holder: Holder | None) -> bool:
        """Whether it is this holder's."""
        return self._holder is holder

    def _all(self, tensors: Iterable[Tensor] | None) -> list[Hold]:
        return [self] if tensors is None else [hold for each in tensors if (hold := getattr(each, "_orlop_hold", None))]

    def _set(self, is_on: bool, keeps_changes: bool) -> None:
        tensor = None if self._tensor is None else self._tensor()
        if tensor is None or self._holder is None or is_on == self._is_on:
            return
        self._is_on = is_on
        if is_on:
            self._holder.hold(tensor)
        else:
            self._holder.let_go(tensor, keeps_changes)

    def __reduce__(self) -> tuple[type[Hold], tuple[()]]:
        return Hold, ()


def mark(tensor: Any, shape: torch.Size, part: Tensor, holder: Holder | None) -> None:
    """Gives a parameter the attributes.

    shape: of the whole. part: this rank's, flat; on the meta device while its values are in a file. holder: None for a
    parameter that is always whole.
    """
    if not hasattr(tensor, "ds_id"):
        tensor.ds_id = Ids.take()
    tensor.ds_shape, tensor.ds_numel = shape, shape.numel()
    tensor.ds_tensor, tensor.ds_persist = part, holder is None
    hold = getattr(tensor, "_orlop_hold", None)
    if hold is None or not hold.is_of(holder):
        hold = Hold(tensor, holder)
        tensor._orlop_hold, tensor.all_gather, tensor.partition = hold, hold.all_gather, hold.partition
    note_status(tensor)


def mark_whole(tensor: Tensor) -> None:
    """The same for a parameter whose values are always in the model."""
    mark(tensor, tensor.shape, tensor.detach().reshape(-1), None)


def note_status(tensor: Any) -> None:
    """After a marked parameter has been given its values, or has lost them."""
    is_whole = tensor.numel() == tensor.ds_numel
    tensor.ds_status = ZeroParamStatus.AVAILABLE if is_whole else ZeroParamStatus.NOT_AVAILABLE


def refuse_change(name: str) -> NoReturn:
    """What zero_optimization.enable_sanity_checks says of a change that no rank is named for."""
    raise OutOfOrderError(
        f"GatheredParameters: on {name}: in-place modification without a rank whose values count: give modifier_rank=0"
    )


def in_a_file(numel: int, dtype: torch.dtype) -> Tensor:
    """What `ds_tensor` is of values that are not in memory."""
    return torch.empty(numel, dtype=dtype, device="meta")
