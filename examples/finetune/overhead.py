"""What Python costs: the hook and the call into the library that each gradient takes."""

from __future__ import annotations

import statistics
import time

import orlop
import torch
from torch import nn

PARAMETERS = 256
REPETITIONS = 15


class _Scalars(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scalars = nn.ParameterList([nn.Parameter(torch.zeros(1)) for _ in range(PARAMETERS)])

    def forward(self) -> torch.Tensor:
        return torch.cat(list(self.scalars)).sum()


def seconds_per_gradient() -> float:
    """A hook, its ctypes call and the library's own fixed cost: a backward of one-element parameters, less torch's."""
    plain = _Scalars()
    alone = statistics.median(_backward_seconds(plain, None) for _ in range(REPETITIONS))
    with orlop.initialize(model=_Scalars(), config={"gradient_accumulation_steps": 1})[0] as engine:
        hooked = statistics.median(_backward_seconds(engine, engine) for _ in range(REPETITIONS))
    return max(0.0, hooked - alone) / PARAMETERS


def _backward_seconds(model: nn.Module, engine: orlop.Engine | None) -> float:
    """Processor time, so that a busy machine does not count; on the CPU all of it is in this thread."""
    model.zero_grad()
    loss = model()
    begin = time.thread_time()
    if engine is None:
        loss.backward()
    else:
        engine.backward(loss)
    return time.thread_time() - begin
