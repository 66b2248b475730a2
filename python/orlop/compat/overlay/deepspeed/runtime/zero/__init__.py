"""What ZeRO consists of, under DeepSpeed's module paths."""

from ..._missing import refuse_unknown as _refuse_unknown
from .generation import unwrap_model_for_generation
from .partition_parameters import GatheredParameters, Init, ZeroParamStatus, register_external_parameter
from .tiling import TiledLinear, TiledLinearReturnBias

__all__ = [
    "GatheredParameters",
    "Init",
    "TiledLinear",
    "TiledLinearReturnBias",
    "ZeroParamStatus",
    "register_external_parameter",
    "unwrap_model_for_generation",
]

__getattr__ = _refuse_unknown(__name__)
