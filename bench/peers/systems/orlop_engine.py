"""Orlop with no tuning at all: the configuration that DeepSpeed gets by default."""

from __future__ import annotations

import orlop
from torch import nn

from ..setting import Setting, configuration
from .loops import EngineLoop


class OrlopEngine(EngineLoop):
    def close(self) -> None:
        self._engine.close()


def start(setting: Setting, model: nn.Module) -> OrlopEngine:
    return OrlopEngine(orlop.initialize(model=model, config=configuration(setting))[0])
