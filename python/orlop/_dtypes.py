"""The types that parameters can have, as torch and as the library name them."""

from __future__ import annotations

import torch

from ._enums import DType

DTYPES: dict[torch.dtype, DType] = {
    torch.float32: DType.F32,
    torch.bfloat16: DType.BF16,
    torch.float16: DType.F16,
}

BY_NAME: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""As a configuration names them."""
