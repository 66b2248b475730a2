"""Groups of ranks. All ranks hold parts of the same model here: the data-parallel group is the whole world."""

from __future__ import annotations

from typing import Any

from .. import comm as dist
from .._missing import missing, refuse_unknown
from ..runtime.sequence_parallel.ulysses_sp import INSTEAD as _NO_SEQUENCES
from ..runtime.tensor_parallel import INSTEAD as _NO_TENSORS

__getattr__ = refuse_unknown(__name__)


def _get_data_parallel_group() -> Any:
    """Ranks that see different data."""
    return dist.get_world_group()


def _get_data_parallel_world_size() -> int:
    return dist.get_world_size(_get_data_parallel_group())


def _get_data_parallel_rank() -> int:
    return dist.get_rank(_get_data_parallel_group())


_get_sequence_parallel_group = missing("deepspeed.utils.groups._get_sequence_parallel_group", _NO_SEQUENCES)
_get_sequence_parallel_world_size = missing("deepspeed.utils.groups._get_sequence_parallel_world_size", _NO_SEQUENCES)
_get_sequence_parallel_rank = missing("deepspeed.utils.groups._get_sequence_parallel_rank", _NO_SEQUENCES)
_get_model_parallel_group = missing("deepspeed.utils.groups._get_model_parallel_group", _NO_TENSORS)
_get_expert_parallel_group = missing("deepspeed.utils.groups._get_expert_parallel_group", _NO_TENSORS)
