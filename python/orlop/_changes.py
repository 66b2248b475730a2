"""What a program makes of parameters while it has them gathered: kept, or refused."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ._enums import DType, Plane
from ._native import NativeEngine
from ._parameters import Parameter
from ._partitioned import refuse_change
from .errors import InvalidArgumentError

Before = tuple[Parameter, "Tensor | None"]  # None: the engine still has the values, in the store


class Changes:
    """Parameters whose values a program sees, and what these were."""

    def __init__(self, native: NativeEngine, in_memory: list[Parameter], in_store: list[Parameter]) -> None:
        self._native = native
        self._before: list[Before] = [(parameter, None) for parameter in in_store]
        self._before += [(parameter, parameter.tensor.detach().cpu().clone()) for parameter in in_memory]

    def keep(self) -> None:
        """Lets masters take the values that are new; where a value is the old one its master stays."""
        for parameter, before, now in self._found():
            if parameter.is_frozen or parameter.dtype is DType.F32:
                parameter.write(self._native, Plane.PARAM, now)
            else:
                master = parameter.read(self._native, Plane.MASTER, torch.float32)
                parameter.write(self._native, Plane.MASTER, torch.where(now == before, master, now.float()))

    def refuse(self) -> None:
        """Takes changes back, and raises OutOfOrderError if there were some."""
        changed = []
        for parameter, before, _ in self._found():
            parameter.tensor.data.copy_(before)
            changed.append(parameter.name)
        if changed:
            refuse_change(changed[0])

    def _found(self) -> Iterator[tuple[Parameter, Tensor, Tensor]]:
        """What is not as it was: the parameter, its values then and now, both on the CPU."""
        for parameter, values in self._before:
            now = parameter.tensor.detach().cpu()
            if now.shape != parameter.shape:
                raise InvalidArgumentError(
                    f"GatheredParameters: on {parameter.name}: its shape was {tuple(parameter.shape)} and is "
                    f"{tuple(now.shape)} now: change it before orlop.initialize"
                )
            before = parameter.read(self._native, Plane.PARAM, now.dtype) if values is None else values
            if not torch.equal(now, before):
                yield parameter, before, now
