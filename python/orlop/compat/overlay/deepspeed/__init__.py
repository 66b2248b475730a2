"""Orlop under DeepSpeed's names: scripts written for DeepSpeed train on the Orlop engine. This is not DeepSpeed.

`deepspeed.__orlop__` is Orlop's version; `deepspeed.__version__` the version of DeepSpeed whose interface this is.
"""

from __future__ import annotations

import orlop as _orlop

from . import _version, accelerator, checkpoint, comm, inference, launcher, moe, ops, pipe, profiling, runtime, utils
from . import comm as dist
from ._arguments import add_config_arguments
from ._initialize import initialize
from ._missing import refuse_unknown as _refuse_unknown
from ._version import __git_branch__, __git_hash__, __version__, __version_major__, __version_minor__, __version_patch__
from .accelerator import get_accelerator
from .comm import init_distributed
from .inference.engine import InferenceEngine, init_inference
from .pipe import PipelineModule
from .runtime import zero
from .runtime.activation_checkpointing import checkpointing
from .runtime.config import DeepSpeedConfig, DeepSpeedConfigError
from .runtime.engine import DeepSpeedEngine
from .runtime.hybrid_engine import DeepSpeedHybridEngine
from .runtime.lr_schedules import add_tuning_arguments
from .runtime.pipe.engine import PipelineEngine
from .runtime.tensor_parallel import tp_model_init
from .utils.init_on_device import OnDevice
from .utils.logging import logger

__orlop__ = _orlop.__version__
__getattr__ = _refuse_unknown(__name__)
