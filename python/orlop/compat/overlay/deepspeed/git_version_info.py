"""What this package and its torch are, as programs ask for it."""

from __future__ import annotations

from typing import Any

import torch

from ._version import __git_branch__ as git_branch
from ._version import __git_hash__ as git_hash
from ._version import __version__ as version
from .accelerator import get_accelerator
from .ops import __compatible_ops__

installed_ops = compatible_ops = __compatible_ops__  # nothing has to be compiled

_NONE = "0.0"  # for what torch was built without


def _major_minor(version: str | None) -> str:
    return ".".join(version.split("+")[0].split(".")[:2]) if version else _NONE


def _nccl_version() -> str:
    if not torch.cuda.is_available() or not torch.distributed.is_nccl_available():
        return _NONE
    major, minor, _ = torch.cuda.nccl.version()  # type: ignore[no-untyped-call]
    return f"{major}.{minor}"


torch_info: dict[str, Any] = {
    "version": _major_minor(torch.__version__),
    "bf16_support": get_accelerator().is_bf16_supported(),
    "cuda_version": _major_minor(torch.version.cuda),
    "nccl_version": _nccl_version(),
    "hip_version": _major_minor(torch.version.hip),
}

__all__ = ["compatible_ops", "git_branch", "git_hash", "installed_ops", "torch_info", "version"]
