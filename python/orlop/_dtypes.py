"""The types of tensors, as torch, the library and safetensors files name them."""

from __future__ import annotations

import torch

from ._enums import DType

DTYPES: dict[torch.dtype, DType] = {  # that parameters can have
    torch.float32: DType.F32,
    torch.bfloat16: DType.BF16,
    torch.float16: DType.F16,
}

BY_NAME: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""As a configuration names them."""

TORCH_TYPES = {native: dtype for dtype, native in DTYPES.items()}
STORED: dict[str, torch.dtype] = {  # that are read from safetensors files and written to them
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
