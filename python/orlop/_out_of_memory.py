"""What to say when a pass finds no memory: where it was, what of the memory is parameters, and what to lower.

The error itself goes on as it is: programs look for its type, and for "out of memory" in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

import torch
from torch import nn

from . import _log
from ._text import size

if TYPE_CHECKING:
    from .engine import Engine


@contextlib.contextmanager
def explained(engine: Engine, what: str) -> Iterator[None]:
    """Logs an explanation of an error inside that says there is no memory, on a device or on the host."""
    try:
        yield
    except RuntimeError as error:
        if _says_out_of_memory(error):
            _log.logger.error(
                "%s: on %s, %s: out of memory: the model's parameters take %s of it, the rest is what the model "
                "computes and what else the program has; %s",
                what,
                engine.device,
                _where(engine.module, error.__traceback__),
                size(_parameter_bytes(engine.module, engine.device)),
                "; or ".join(_remedies(engine)),
            )
        raise


def _says_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _where(model: nn.Module, trace: TracebackType | None) -> str:
    """The innermost module that was computing."""
    names = {id(module): name for name, module in model.named_modules()}
    found = ""
    while trace is not None:
        found = names.get(id(trace.tb_frame.f_locals.get("self"))) or found
        trace = trace.tb_next
    return f"in {found}" if found else "outside of the model's modules"


def _parameter_bytes(model: nn.Module, device: torch.device) -> int:
    """Of those that are there now: what is offloaded is empty."""
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.device == device)


def _remedies(engine: Engine) -> list[str]:
    micro_batch, steps = engine.train_micro_batch_size_per_gpu(), engine.gradient_accumulation_steps()
    remedies = ["recompute what the model computes (gradient_checkpointing)"]
    if micro_batch is None or micro_batch > 1:
        now = "" if micro_batch is None else f" ({micro_batch})"
        remedies.insert(0, f"lower train_micro_batch_size_per_gpu{now} and raise gradient_accumulation_steps ({steps})")
    if not engine._units:
        return [*remedies, 'offload parameters ("stage": 3, "offload_param": {"device": "cpu"})']
    return [*remedies, "lower stage3_max_live_parameters"]
