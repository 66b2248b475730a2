"""`deepspeed.checkpointing`: orlop.checkpointing under DeepSpeed's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orlop
from orlop import checkpointing as _orlop
from orlop._kept_inputs import Group
from orlop.errors import ConfigError

from ..._missing import missing, refuse_unknown

CudaRNGStatesTracker = _orlop.RandomStates
PartitionedTensor = missing(
    "deepspeed.runtime.utils.PartitionedTensor", "partition_activations keeps the parts of activations by itself"
)


def configure(
    mpu_: Any,
    deepspeed_config: Any = None,
    partition_activations: bool | None = None,
    contiguous_checkpointing: bool | None = None,
    num_checkpoints: int | None = None,
    checkpoint_in_cpu: bool | None = None,
    synchronize: bool | None = None,
    profile: bool | None = None,
) -> None:
    """Says where checkpoints keep their inputs, by a configuration and, counting more, by the other arguments.

    mpu_: the model-parallel unit, whose group partition_activations is among; None for one rank.
    Raises AssertionError for contiguous checkpointing without the number of layers.
    """
    try:
        _orlop.configure(
            _block_of(deepspeed_config),
            group=None if mpu_ is None else _group_of(mpu_),
            partition_activations=partition_activations,
            contiguous_checkpointing=contiguous_checkpointing,
            num_checkpoints=num_checkpoints,
            checkpoint_in_cpu=checkpoint_in_cpu,
            synchronize=synchronize,
            profile=profile,
        )
    except ConfigError as error:
        if "number of layers" not in str(error):
            raise
        raise AssertionError(str(error)) from None


def _block_of(config: Any) -> dict[str, Any]:
    """The block activation_checkpointing of a path, a dict, or an object that has read one."""
    if config is None:
        return {}
    block = orlop.Config(getattr(config, "_param_dict", config)).values.get("activation_checkpointing")
    return dict(block or {})


def _group_of(mpu: Any) -> Group:
    """Megatron has had two spellings."""
    kind = "tensor_model_parallel" if hasattr(mpu, "get_tensor_model_parallel_world_size") else "model_parallel"
    size, rank = getattr(mpu, f"get_{kind}_world_size")(), getattr(mpu, f"get_{kind}_rank")()
    return Group(size, rank, getattr(mpu, f"get_{kind}_group")() if size > 1 else None)


def is_configured() -> bool:
    """Whether `configure` has been called, or an engine's configuration has the block."""
    return _orlop.is_configured()


def checkpoint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls `function` now, and once more in its backward pass, instead of keeping what that needs."""
    return _orlop.checkpoint(function, *args, **kwargs)


def non_reentrant_checkpoint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The same as `checkpoint`: here every checkpoint is of that kind, which leaves no gradient out."""
    return _orlop.checkpoint(function, *args, **kwargs)


class CheckpointFunction:
    """A checkpoint the way Megatron calls it."""

    @staticmethod
    def apply(function: Callable[..., Any], all_outputs: list[Any], *args: Any) -> Any:
        """Checkpoints `function(*args)` and also appends what it returns to `all_outputs`."""
        outputs = _orlop.checkpoint(function, *args)
        all_outputs += outputs if isinstance(outputs, tuple) else (outputs,)
        return outputs


def reset() -> None:
    """Gives back the memory that checkpoints take between passes."""
    _orlop.reset()


def partition_activations_in_checkpoint(partition_activation: bool) -> None:
    """Switches partition_activations."""
    _orlop.configure(partition_activations=partition_activation)


def set_num_layers(nlayers: int) -> None:
    """Says how many checkpoints a pass has, for contiguous checkpointing."""
    _orlop.configure(num_checkpoints=nlayers)


def get_cuda_rng_tracker() -> CudaRNGStatesTracker:
    """The named random states, which checkpoints put back before they compute again."""
    return _orlop.tracker


def model_parallel_cuda_manual_seed(seed: int) -> None:
    """Seeds the default generator, and the one that model-parallel ranks have each by itself, as of rank 0 of one."""
    _orlop.seed_model_parallel(seed, _orlop.model_parallel_rank())


def model_parallel_reconfigure_tp_seed(seed: int) -> None:
    """Seeds the model-parallel generator anew."""
    _orlop.seed_model_parallel(seed, _orlop.model_parallel_rank(), keeps_default=True)


__getattr__ = refuse_unknown(__name__)
