"""The block zero_optimization."""

from __future__ import annotations

import sys
from enum import IntEnum
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from ..config_utils import DeepSpeedConfigModel, OldField
from .leaf_module_config import (
    DEFAULT_LEAF_MODULE_CLASSES,
    DEFAULT_LEAF_MODULE_NAME_SUFFIXES,
    DEFAULT_LEAF_MODULE_NAMES,
)
from .offload_config import (
    DeepSpeedZeroOffloadOptimizerConfig,
    DeepSpeedZeroOffloadParamConfig,
    OffloadDeviceEnum,
)

ZERO_OPTIMIZATION = "zero_optimization"
ALLGATHER_ALIGNMENT = 2
"""What allgather_bucket_size must be a multiple of."""


class ZeroStageEnum(IntEnum):
    """What is sharded over ranks."""

    disabled = 0
    optimizer_states = 1
    gradients = 2
    weights = 3
    max_stage = 3


class DeepSpeedZeroLeafModuleConfig(DeepSpeedConfigModel):
    """Which modules are fetched as one: by class, by qualified name, by its end. A string stands for a list of one."""

    classes: list[str] = Field(default_factory=lambda: list(DEFAULT_LEAF_MODULE_CLASSES))
    names: list[str] = Field(default_factory=lambda: list(DEFAULT_LEAF_MODULE_NAMES))
    name_suffixes: list[str] = Field(default_factory=lambda: list(DEFAULT_LEAF_MODULE_NAME_SUFFIXES))

    @field_validator("classes", "names", "name_suffixes", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


def _on_cpu(block: type[DeepSpeedConfigModel]) -> OldField:
    new = "offload_param" if block is DeepSpeedZeroOffloadParamConfig else "offload_optimizer"
    return OldField(new, lambda value: block(device=OffloadDeviceEnum.cpu) if value else None)


class DeepSpeedZeroConfig(DeepSpeedConfigModel):
    """ZeRO's settings. What each does here is in docs/config.md."""

    stage: ZeroStageEnum = ZeroStageEnum.disabled
    contiguous_gradients: bool = True
    reduce_scatter: bool = True
    reduce_bucket_size: int = Field(500_000_000, ge=0)
    use_multi_rank_bucket_allreduce: bool = True
    allgather_partitions: bool = True
    allgather_bucket_size: int = Field(500_000_000, ge=0)
    overlap_comm: bool | None = None
    compute_grad_norm: bool = True
    load_from_fp32_weights: bool = True
    elastic_checkpoint: bool = False
    offload_param: DeepSpeedZeroOffloadParamConfig | None = None
    offload_optimizer: DeepSpeedZeroOffloadOptimizerConfig | None = None
    zenflow: dict[str, Any] | None = None
    sub_group_size: int = Field(1_000_000_000, ge=0)
    prefetch_bucket_size: int = Field(50_000_000, ge=0, alias="stage3_prefetch_bucket_size")
    param_persistence_threshold: int = Field(100_000, ge=0, alias="stage3_param_persistence_threshold")
    model_persistence_threshold: int = Field(sys.maxsize, ge=0, alias="stage3_model_persistence_threshold")
    max_live_parameters: int = Field(1_000_000_000, ge=0, alias="stage3_max_live_parameters")
    max_reuse_distance: int = Field(1_000_000_000, ge=0, alias="stage3_max_reuse_distance")
    gather_16bit_weights_on_model_save: bool = Field(False, alias="stage3_gather_16bit_weights_on_model_save")
    module_granularity_threshold: int = Field(0, alias="stage3_module_granularity_threshold")
    use_all_reduce_for_fetch_params: bool = Field(False, alias="stage3_use_all_reduce_for_fetch_params")
    allgather_sequential: bool = Field(False, alias="stage3_allgather_sequential")
    ignore_unused_parameters: bool = True
    legacy_stage1: bool = False
    round_robin_gradients: bool = False
    parameter_alignment: bool = False
    zero_hpz_partition_size: int = Field(1, ge=0)
    zero_quantized_weights: bool = False
    zero_quantized_nontrainable_weights: bool = False
    zero_quantized_gradients: bool = False
    memory_efficient_linear: bool = True
    pipeline_loading_checkpoint: bool = False
    override_module_apply: bool = True
    log_trace_cache_warnings: bool = False
    enable_sanity_checks: bool = False
    save_muon_momentum_buffer_in_memory: bool = False
    leaf_module: DeepSpeedZeroLeafModuleConfig = Field(default_factory=DeepSpeedZeroLeafModuleConfig)

    old_fields: ClassVar[dict[str, OldField]] = {
        "cpu_offload": _on_cpu(DeepSpeedZeroOffloadOptimizerConfig),
        "cpu_offload_param": _on_cpu(DeepSpeedZeroOffloadParamConfig),
        "cpu_offload_params": _on_cpu(DeepSpeedZeroOffloadParamConfig),
        "cpu_offload_use_pin_memory": OldField(None),
        "stage3_gather_fp16_weights_on_model_save": OldField("gather_16bit_weights_on_model_save"),
    }

    @model_validator(mode="after")
    def _derive(self) -> DeepSpeedZeroConfig:
        if self.overlap_comm is None:
            self.__dict__["overlap_comm"] = self.stage == ZeroStageEnum.weights
        return self

    @model_validator(mode="after")
    def _check_ratio(self) -> DeepSpeedZeroConfig:
        block = self.offload_optimizer
        assert block is None or block.ratio == 1.0 or self.stage == ZeroStageEnum.weights, (
            "Partial offloading only supported for ZeRO Stage 3."
        )
        return self

    def check_buckets(self) -> None:
        """Raises AssertionError for a bucket of stage 2 that ranks could not share."""
        assert self.stage != ZeroStageEnum.gradients or self.allgather_bucket_size % ALLGATHER_ALIGNMENT == 0, (
            "allgather_bucket_size must be a multiple of nccl_start_alignment_factor, "
            f"{self.allgather_bucket_size} is not divisible by {ALLGATHER_ALIGNMENT}"
        )


def get_zero_config(param_dict: dict[str, Any]) -> DeepSpeedZeroConfig:
    """The block of a configuration; `true` stands for stage 1."""
    block = param_dict.get(ZERO_OPTIMIZATION) or {}
    if isinstance(block, bool):
        block = {"stage": 1}
    return DeepSpeedZeroConfig(**block)
