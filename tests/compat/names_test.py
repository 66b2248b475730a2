"""Every name that programs written for DeepSpeed import, and what happens with one that is not provided."""

from __future__ import annotations

import argparse
import importlib
from types import ModuleType

import deepspeed
import pytest

LR_CONSTANTS = """
    LR_RANGE_TEST LR_RANGE_TEST_MIN_LR LR_RANGE_TEST_STEP_RATE LR_RANGE_TEST_STEP_SIZE LR_RANGE_TEST_STAIRCASE ONE_CYCLE
    CYCLE_FIRST_STEP_SIZE CYCLE_SECOND_STEP_SIZE CYCLE_FIRST_STAIR_COUNT CYCLE_SECOND_STAIR_COUNT DECAY_STEP_SIZE
    CYCLE_MIN_LR CYCLE_MAX_LR DECAY_LR_RATE CYCLE_MIN_MOM CYCLE_MAX_MOM DECAY_MOM_RATE WARMUP_LR WARMUP_DECAY_LR
    WARMUP_COSINE_LR WARMUP_MIN_LR WARMUP_MAX_LR WARMUP_NUM_STEPS WARMUP_TYPE WARMUP_MIN_RATIO COS_MIN_RATIO
    TOTAL_NUM_STEPS
"""

NAMES = {
    "deepspeed": """
        initialize init_distributed add_config_arguments zero DeepSpeedEngine DeepSpeedConfigError OnDevice
        checkpointing comm ops runtime accelerator utils checkpoint moe pipe launcher __version__ __version_major__
        __version_minor__ __version_patch__ __git_hash__ __git_branch__ __orlop__
    """,
    "deepspeed.zero": "Init GatheredParameters register_external_parameter TiledLinear",
    "deepspeed.checkpointing": "configure checkpoint",
    "deepspeed.accelerator": "get_accelerator is_current_accelerator_supported",
    "deepspeed.comm": """
        init_distributed is_initialized barrier all_reduce all_gather all_gather_into_tensor new_group get_rank
        get_world_size destroy_process_group ReduceOp broadcast
    """,
    "deepspeed.comm.comm": "init_distributed is_initialized",
    "deepspeed.git_version_info": "torch_info",
    "deepspeed.env_report": "main cli_main",
    "deepspeed.ops": "__compatible_ops__ op_builder aio adam adagrad lion",
    "deepspeed.ops.op_builder": """
        AsyncIOBuilder CPUAdamBuilder CPUAdagradBuilder CPULionBuilder FusedAdamBuilder FusedLambBuilder
    """,
    "deepspeed.ops.aio": "AsyncIOBuilder",
    "deepspeed.ops.adam": "DeepSpeedCPUAdam FusedAdam",
    "deepspeed.ops.adagrad": "DeepSpeedCPUAdagrad",
    "deepspeed.ops.lion": "DeepSpeedCPULion FusedLion",
    "deepspeed.pipe": "PipelineModule LayerSpec",
    "deepspeed.runtime.pipe.module": "PipelineModule LayerSpec",
    "deepspeed.runtime.pipe.topology": "PipeModelDataParallelTopology",
    "deepspeed.moe.layer": "MoE",
    "deepspeed.moe.utils": "split_params_into_different_moe_groups_for_optimizer",
    "deepspeed.checkpoint": "UNIVERSAL_CHECKPOINT_INFO",
    "deepspeed.checkpoint.utils": "clone_tensors_for_torch_save get_model_ckpt_name_for_rank",
    "deepspeed.checkpoint.ds_to_universal": "main",
    "deepspeed.launcher.runner": "parse_resource_filter fetch_hostfile main parse_args DEEPSPEED_ENVIRONMENT_NAME",
    "deepspeed.runtime.config": "DeepSpeedConfig ADAM_OPTIMIZER get_gradient_clipping get_log_level",
    "deepspeed.runtime.constants": "GRADIENT_CLIPPING_DEFAULT LOG_LEVEL_DEFAULT",
    "deepspeed.runtime.precision_config": "DeepSpeedFP16Config get_bfloat16_config",
    "deepspeed.runtime.lr_schedules": f"""
        LRRangeTest OneCycle WarmupLR WarmupDecayLR WarmupCosineLR VALID_LR_SCHEDULES {LR_CONSTANTS}
    """,
    "deepspeed.runtime.engine": "DeepSpeedEngine",
    "deepspeed.runtime.zero.stage3": "DeepSpeedZeroOptimizer_Stage3",
    "deepspeed.runtime.zero.stage_1_and_2": "DeepSpeedZeroOptimizer",
    "deepspeed.runtime.fp16.fused_optimizer": "FP16_Optimizer",
    "deepspeed.runtime.fp16.unfused_optimizer": "FP16_UnfusedOptimizer",
    "deepspeed.runtime.bf16_optimizer": "BF16_Optimizer",
    "deepspeed.runtime.base_optimizer": "ZeROOptimizer",
    "deepspeed.runtime.zero": "GatheredParameters ZeroParamStatus unwrap_model_for_generation",
    "deepspeed.runtime.zero.config": """
        DeepSpeedZeroConfig DeepSpeedZeroOffloadParamConfig DeepSpeedZeroOffloadOptimizerConfig
    """,
    "deepspeed.runtime.zero.offload_config": "OffloadDeviceEnum",
    "deepspeed.runtime.zero.leaf_module_config": """
        DEFAULT_LEAF_MODULE_CLASSES DEFAULT_LEAF_MODULE_NAMES DEFAULT_LEAF_MODULE_NAME_SUFFIXES
    """,
    "deepspeed.runtime.zero.tiling": "TiledLinear TiledLinearReturnBias",
    "deepspeed.runtime.zero.utils": "ZeRORuntimeException",
    "deepspeed.runtime.zero.partition_parameters": "Init ZeroParamStatus partitioned_param_data_shape",
    "deepspeed.runtime.swap_tensor": "MIN_SWAPPABLE_BYTES",
    "deepspeed.runtime.torch_autocast": "PARAM_COMM_DTYPE_ATTR_NAME get_comm_dtype has_comm_dtype",
    "deepspeed.runtime.activation_checkpointing.checkpointing": "non_reentrant_checkpoint checkpoint configure",
    "deepspeed.runtime.utils": "see_memory_usage",
    "deepspeed.utils": """
        RepeatingLoader logging logger safe_get_full_fp32_param safe_get_full_grad safe_get_full_optimizer_state
        safe_get_local_fp32_param safe_get_local_grad safe_get_local_optimizer_state safe_set_full_fp32_param
        safe_set_full_grad safe_set_full_optimizer_state safe_set_local_fp32_param safe_set_local_grad
        safe_set_local_optimizer_state safe_update_full_grad_vectorized set_z3_leaf_modules unset_z3_leaf_modules
        get_z3_leaf_modules set_z3_leaf_modules_by_name set_z3_leaf_modules_by_suffix z3_leaf_module groups
    """,
    "deepspeed.utils.numa": "parse_range_list",
    "deepspeed.utils.torch": "required_torch_version",
    "deepspeed.utils.zero_to_fp32": """
        convert_zero_checkpoint_to_fp32_state_dict get_fp32_state_dict_from_zero_checkpoint
        load_state_dict_from_zero_checkpoint
    """,
}

REFUSED = {
    "deepspeed.moe.layer": "MoE",
    "deepspeed.moe.utils": "split_params_into_different_moe_groups_for_optimizer is_moe_param",
    "deepspeed.pipe": "PipelineModule LayerSpec TiedLayerSpec",
    "deepspeed.runtime.pipe.topology": "PipeModelDataParallelTopology",
    "deepspeed.utils.groups": "_get_sequence_parallel_group _get_sequence_parallel_world_size",
    "deepspeed.runtime.sequence_parallel.ulysses_sp": "UlyssesSPAttentionHF UlyssesSPDataLoaderAdapter",
    "deepspeed": "tp_model_init init_inference InferenceEngine PipelineModule DeepSpeedHybridEngine",
    "deepspeed.comm": "log_summary",
}


def each(table: dict[str, str]) -> list[tuple[str, str]]:
    return [(module, name) for module, names in table.items() for name in names.split()]


def reached(module: str) -> ModuleType:
    """A module, or an attribute of deepspeed's that is one: `deepspeed.zero` is `deepspeed.runtime.zero`."""
    if module in ("deepspeed.zero", "deepspeed.checkpointing"):
        return getattr(deepspeed, module.rpartition(".")[2])
    return importlib.import_module(module)


@pytest.mark.parametrize(("module", "name"), each(NAMES))
def test_a_name_that_programs_import_is_there(module: str, name: str) -> None:
    assert hasattr(reached(module), name)


@pytest.mark.parametrize(
    "module", ["zero", "comm", "utils", "ops", "runtime.lr_schedules", "checkpoint", "accelerator"]
)
def test_importing_deepspeed_alone_makes_it_reachable(module: str) -> None:
    found = deepspeed
    for part in module.split("."):
        found = getattr(found, part)
    assert found is reached(f"deepspeed.{module}")


@pytest.mark.parametrize(("module", "name"), each(REFUSED))
def test_what_is_not_provided_can_be_asked_about_and_refuses_to_be_used(module: str, name: str) -> None:
    refused = getattr(importlib.import_module(module), name)
    assert not isinstance(object(), refused)
    with pytest.raises(NotImplementedError, match=rf"{name} is not provided by Orlop: \w+"):
        refused(1, key=2)


@pytest.mark.parametrize("module", ["deepspeed", "deepspeed.comm", "deepspeed.utils.groups"])
def test_an_unknown_name_says_whose_package_this_is(module: str) -> None:
    found = importlib.import_module(module)
    for kind in (AttributeError, NotImplementedError):
        with pytest.raises(kind, match=rf"{module}\.no_such_thing is not provided by Orlop"):
            found.no_such_thing  # noqa: B018
    assert not hasattr(found, "no_such_thing")
    with pytest.raises(ImportError):
        exec(f"from {module} import no_such_thing")


def test_one_engine_class_has_both_names() -> None:
    from deepspeed.runtime.engine import DeepSpeedEngine

    assert deepspeed.DeepSpeedEngine is DeepSpeedEngine


def test_the_version_is_the_metadatas() -> None:
    major, minor, patch = deepspeed.__version_major__, deepspeed.__version_minor__, deepspeed.__version_patch__
    assert deepspeed.__version__ == f"{major}.{minor}.{patch}+orlop"


def test_a_parser_gets_the_arguments() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr")
    assert deepspeed.add_config_arguments(parser) is parser
    none = parser.parse_args([])
    assert (none.deepspeed, none.deepspeed_config) == (False, None)
    given = parser.parse_args(["--deepspeed", "--deepspeed_config", "ds.json", "--lr", "1"])
    assert (given.deepspeed, given.deepspeed_config, given.lr) == (True, "ds.json", "1")


def test_torchs_version_is_compared() -> None:
    import torch
    from deepspeed.utils.torch import required_torch_version

    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    assert required_torch_version(min_version=1.13) and not required_torch_version(max_version=1.13)
    assert required_torch_version(min_version=f"{major}.{minor}")
    assert required_torch_version(max_version=f"{major}.{minor}")
    assert not required_torch_version(min_version=major + 1)


def test_a_parameter_may_say_in_which_dtype_it_is_exchanged() -> None:
    import torch
    from deepspeed.runtime.torch_autocast import PARAM_COMM_DTYPE_ATTR_NAME, get_comm_dtype, has_comm_dtype

    parameter = torch.nn.Parameter(torch.zeros(2))
    assert not has_comm_dtype(parameter) and get_comm_dtype(parameter) == torch.float32
    setattr(parameter, PARAM_COMM_DTYPE_ATTR_NAME, torch.bfloat16)
    assert has_comm_dtype(parameter) and get_comm_dtype(parameter) == torch.bfloat16


def test_no_class_is_left_patched_and_no_group_is_made_by_an_import() -> None:
    import torch

    before = torch.nn.Module.__init__
    importlib.import_module("deepspeed.runtime.engine")
    assert torch.nn.Module.__init__ is before
