"""DeepSpeed on its CPU accelerator, one process: its defaults, or what tuning.py found."""

from __future__ import annotations

import os
import socket

from torch import nn

from ..setting import Setting, configuration
from .loops import EngineLoop


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def start(setting: Setting, model: nn.Module) -> EngineLoop:
    os.environ.update({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_SIZE": "1"})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())})
    os.environ.update(setting.tuning.environment)
    import deepspeed  # reads its environment when imported

    config = configuration(setting)
    return EngineLoop(deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)[0])
