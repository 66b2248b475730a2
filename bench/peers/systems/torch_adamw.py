"""torch's own AdamW, fused, everything in memory; with bf16 parameters over an fp32 copy of them."""

from __future__ import annotations

import torch
from torch import nn

from ..setting import CLIPPING, LEARNING, Setting
from .loops import ModelLoop


class TorchAdamW(ModelLoop):
    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        is_fp32 = self._params[0].dtype == torch.float32
        self._masters = self._params if is_fp32 else [nn.Parameter(p.detach().float()) for p in self._params]
        self._optimizer = torch.optim.AdamW(self._masters, fused=True, **LEARNING)

    @torch.no_grad()
    def step(self) -> None:
        own_masters = self._masters is not self._params
        if own_masters:
            for param, master in zip(self._params, self._masters, strict=True):
                assert param.grad is not None
                master.grad, param.grad = param.grad.float(), None
        nn.utils.clip_grad_norm_(self._masters, CLIPPING)
        self._optimizer.step()
        self._optimizer.zero_grad()
        if own_masters:
            torch._foreach_copy_(self._params, self._masters)


def start(setting: Setting, model: nn.Module) -> TorchAdamW:
    return TorchAdamW(model)
