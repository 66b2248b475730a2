"""States in mapped files, updated by torch operations parameter by parameter: what one writes without an engine.

After each parameter its pages are written and dropped: states that stay in the page cache have not left memory, and
pages written later would slow whoever runs then.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from ..setting import CLIPPING, LEARNING, Setting
from .loops import ModelLoop


class MappedStates:
    """Some fp32 arrays of one parameter in a file."""

    def __init__(self, path: Path, count: int, numel: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(self._fd, 0, 4 * count * numel)
        self._map = mmap.mmap(self._fd, 4 * count * numel)
        self.arrays = torch.frombuffer(self._map, dtype=torch.float32).view(count, numel).unbind()

    def put_away(self) -> None:
        self._map.flush()
        self._map.madvise(mmap.MADV_DONTNEED)
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)


class MappedFiles(ModelLoop):
    def __init__(self, model: nn.Module, folder: Path) -> None:
        super().__init__(model)
        folder.mkdir(parents=True)
        self._steps = 0
        self._has_masters = self._params[0].dtype != torch.float32
        count = 3 if self._has_masters else 2
        self._states = [MappedStates(folder / str(i), count, p.numel()) for i, p in enumerate(self._params)]
        for param, states in zip(self._params, self._states, strict=True):
            for array in states.arrays:
                array.zero_()
            if self._has_masters:
                states.arrays[2].copy_(param.detach().flatten())
            states.put_away()

    @torch.no_grad()
    def step(self) -> None:
        self._steps += 1
        norms = [p.grad.float().norm() for p in self._params if p.grad is not None]
        factor = torch.clamp(CLIPPING / (torch.stack(norms).norm() + 1e-6), max=1.0)
        for param, states in zip(self._params, self._states, strict=True):
            self._update(param, states, factor)

    def _update(self, param: nn.Parameter, states: MappedStates, factor: Tensor) -> None:
        assert param.grad is not None
        rate, (beta1, beta2) = LEARNING["lr"], LEARNING["betas"]
        mean, square = states.arrays[:2]
        master = states.arrays[2] if self._has_masters else param.detach().view(-1)
        gradient = param.grad.flatten().float() * factor
        param.grad = None
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        scale = (1 - beta2**self._steps) ** 0.5
        divisor = square.sqrt().div_(scale).add_(LEARNING["eps"])
        master.mul_(1 - rate * LEARNING["weight_decay"])
        master.addcdiv_(mean, divisor, value=-rate / (1 - beta1**self._steps))
        if self._has_masters:
            param.view(-1).copy_(master)
        states.put_away()


def start(setting: Setting, model: nn.Module) -> MappedFiles:
    return MappedFiles(model, Path(setting.nvme_path) / "states")
