"""Parameters that live in the store, seen by a program: by DeepSpeed's names.

Inside `Init` a model is built without having it in memory; `load_safetensors` gives it weights of files. In training a
module's own parameters are there while its forward runs. For everything else:

with orlop.zero.GatheredParameters(model.head.weight):
    print(model.head.weight.norm())
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from . import _parked
from ._init import Init
from ._partitioned import ZeroParamStatus
from ._units import note_external
from ._weights import Differences, load_safetensors
from .engine import open_engines
from .errors import InvalidArgumentError

__all__ = [
    "Differences",
    "GatheredParameters",
    "Init",
    "ZeroParamStatus",
    "load_safetensors",
    "register_external_parameter",
]


@contextlib.contextmanager
def GatheredParameters(
    params: Tensor | nn.Module | Iterable[Tensor],
    modifier_rank: int | None = None,
    fwd_module: nn.Module | None = None,
    enabled: bool = True,
) -> Iterator[None]:
    """Has parameters in memory inside the block, whatever limits say; those that are there anyway stay as they are.

    params: parameters, or a module whose own and whose children's are meant.
    modifier_rank: a rank whose changes are kept: masters take the new values, moments stay. None: the block only looks;
        whether a change is kept depends on where the values live. With zero_optimization.enable_sanity_checks it is
        undone, and raises OutOfOrderError at the end of the block.
    fwd_module: a module that uses them in its forward, as `register_external_parameter` says it.
    """
    tensors = _tensors(params)
    keeps_changes = modifier_rank is not None
    with contextlib.ExitStack() as stack:
        if enabled:
            stack.enter_context(_parked.gathered(tensors, keeps_changes))
        if enabled and fwd_module is not None:
            for tensor in tensors:
                register_external_parameter(fwd_module, tensor)
        for engine in open_engines() if enabled else ():
            stack.enter_context(engine._gathered(tensors, keeps_changes))
        yield


def register_external_parameter(module: nn.Module, parameter: Tensor) -> None:
    """Says that a module's forward uses a parameter that is another module's, so that it is there then.

    Before `initialize` or after it. What a module looks up in others while it runs, and what they return to it, is
    found without being said.
    """
    if not isinstance(module, nn.Module) or not isinstance(parameter, Tensor):
        raise InvalidArgumentError(
            f"register_external_parameter: on a {type(module).__name__} and a {type(parameter).__name__}: must be a "
            "module and a parameter"
        )
    note_external(module, parameter)
    for engine in open_engines():
        engine._units.register_external(module, parameter)


def _tensors(params: Tensor | nn.Module | Iterable[Tensor]) -> list[Tensor]:
    if isinstance(params, nn.Module):
        return list(params.parameters())
    return [params] if isinstance(params, Tensor) else list(params)
