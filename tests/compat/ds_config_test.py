"""Configurations under DeepSpeed's names: where they may come from, what is read of them, what is refused and how."""

from __future__ import annotations

import base64
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import deepspeed
import orlop
import pydantic
import pytest
import torch
from deepspeed.runtime.config import (
    ADAM_OPTIMIZER,
    DeepSpeedConfig,
    DeepSpeedConfigError,
    get_gradient_clipping,
    get_log_level,
)
from deepspeed.runtime.constants import GRADIENT_CLIPPING_DEFAULT, LOG_LEVEL_DEFAULT
from deepspeed.runtime.precision_config import DeepSpeedFP16Config, get_bfloat16_config
from deepspeed.runtime.zero.config import (
    DeepSpeedZeroConfig,
    DeepSpeedZeroOffloadOptimizerConfig,
    DeepSpeedZeroOffloadParamConfig,
)
from deepspeed.runtime.zero.offload_config import OffloadDeviceEnum
from torch import nn

BATCH = {"train_batch_size": 4}


def config(**changes: Any) -> DeepSpeedConfig:
    return DeepSpeedConfig(BATCH | changes)


# ---- Where it comes from ----


def test_a_configuration_may_be_a_dict_a_file_or_base64(tmp_path: Path) -> None:
    text = json.dumps(BATCH)
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "b.hjson").write_text("{\n  # how many\n  train_batch_size: 4\n}\n")
    (tmp_path / "c.json").write_text('{"train_batch_size": 4, // how many\n}')
    sources = [BATCH, *map(str, sorted(tmp_path.iterdir())), tmp_path / "a.json"]
    sources.append(base64.urlsafe_b64encode(text.encode()).decode())
    for source in sources:
        assert DeepSpeedConfig(source).train_batch_size == 4


def test_what_is_none_of_these_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected a string path to an existing deepspeed config.*Received: /nowhere"):
        DeepSpeedConfig("/nowhere.json")
    (tmp_path / "a.json").write_text('{"train_batch_size": 4, "train_batch_size": 5}')
    with pytest.raises(ValueError, match=r"Duplicate keys in DeepSpeed config: \['train_batch_size'\]"):
        DeepSpeedConfig(str(tmp_path / "a.json"))


def test_the_given_dict_is_not_changed() -> None:
    given = {"train_batch_size": 4, "zero_optimization": {"cpu_offload": True, "stage": 2}}
    kept = json.loads(json.dumps(given))
    found = DeepSpeedConfig(given)
    found._param_dict["zero_optimization"]["stage"] = 3
    assert given == kept


@pytest.mark.parametrize("package", ["pydantic", "hjson"])
def test_without_an_optional_package_one_sentence_says_so(package: str, tmp_path: Path) -> None:
    (tmp_path / "a.hjson").write_text("{train_batch_size: 4}")
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "import deepspeed.runtime.config as c\n"
        f"c.DeepSpeedConfig({str(tmp_path / 'a.hjson')!r})\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: deepspeed.runtime.config: on ") and f"pip install {package}" in last


# ---- Batch sizes ----


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"train_batch_size": 8}, (8, 8, 1)),
        ({"train_micro_batch_size_per_gpu": 3}, (3, 3, 1)),
        ({"train_micro_batch_size_per_gpu": 3, "gradient_accumulation_steps": 2}, (6, 3, 2)),
        ({"train_batch_size": 8, "gradient_accumulation_steps": 2}, (8, 4, 2)),
        ({"train_batch_size": 8, "train_micro_batch_size_per_gpu": 2}, (8, 2, 4)),
        ({"train_batch_size": 8, "train_micro_batch_size_per_gpu": "auto"}, (8, 8, 1)),
    ],
)
def test_two_batch_sizes_give_the_third(given: dict[str, Any], expected: tuple[int, int, int]) -> None:
    found = DeepSpeedConfig(given)
    assert expected == (
        found.train_batch_size,
        found.train_micro_batch_size_per_gpu,
        found.gradient_accumulation_steps,
    )


def test_batch_sizes_that_do_not_agree_are_refused() -> None:
    for given, why in (
        ({"gradient_accumulation_steps": 2}, "Either train_batch_size or train_micro_batch_size_per_gpu"),
        ({"train_batch_size": 8, "train_micro_batch_size_per_gpu": 3}, r"micro_batch_per_gpu .* 8 != 3 \* 2 \* 1"),
        ({"train_batch_size": 0}, "Train batch size: 0 has to be greater than 0"),
    ):
        with pytest.raises(AssertionError, match=why):
            DeepSpeedConfig(given)


# ---- Single keys ----


def test_gradients_are_clipped_unless_0_is_written() -> None:
    assert GRADIENT_CLIPPING_DEFAULT == get_gradient_clipping({}) == config().gradient_clipping == 1.0
    for off in (0, 0.0):
        assert get_gradient_clipping({"gradient_clipping": off}) == config(gradient_clipping=off).gradient_clipping == 0


def test_the_log_level_is_what_is_written() -> None:
    assert LOG_LEVEL_DEFAULT is get_log_level({}) is config().log_level is None
    assert config(log_level="ERROR").log_level == get_log_level({"log_level": "ERROR"}) == "ERROR"


def test_gradients_are_joined_as_one_word_says() -> None:
    assert (
        config().gradient_allreduce_op == "mean" and config(gradient_allreduce_op="SUM").gradient_allreduce_op == "sum"
    )
    with pytest.raises(ValueError, match="Invalid gradient_allreduce_op"):
        config(gradient_allreduce_op="max")
    with pytest.raises(ValueError, match="not supported with ZeRO stage 3"):
        config(gradient_allreduce_op="sum", zero_optimization={"stage": 3})


def test_types_are_read_by_any_of_their_names() -> None:
    assert config().communication_data_type is None
    for name in ("bf16", "bfloat16", "torch.bfloat16", torch.bfloat16):
        assert config(communication_data_type=name).communication_data_type is torch.bfloat16
    with pytest.raises(ValueError, match=r"Invalid communication_data_type. Supported data types: \['fp16', 'bf16'"):
        config(communication_data_type="int8")
    found = config(torch_autocast={"enabled": True, "dtype": "float16", "lower_precision_safe_modules": ["a.B"]})
    assert found.torch_autocast_enabled and found.torch_autocast_dtype is torch.float16
    assert found.torch_autocast_lower_precision_safe_modules == ["a.B"]
    found = config(data_types={"grad_accum_dtype": "fp16", "param_dtype": "bf16", "buffer_dtype": "fp32"})
    assert (found.grad_accum_dtype, found.param_dtype, found.buffer_dtype) == ("fp16", "bf16", "fp32")


def test_tags_are_compared_as_one_word_says() -> None:
    assert config().checkpoint_tag_validation_enabled and not config().checkpoint_tag_validation_fail
    assert config(checkpoint={"tag_validation": "fail"}).checkpoint_tag_validation_fail
    assert not config(checkpoint={"tag_validation": "Ignore"}).checkpoint_tag_validation_enabled
    with pytest.raises(DeepSpeedConfigError, match="invalid tag_validation value of FOO"):
        config(checkpoint={"tag_validation": "foo"})
    assert config(checkpoint={"parallel_write": {"pipeline_stage": True}}).checkpoint_parallel_write_pipeline
    with pytest.raises(DeepSpeedConfigError, match="value of 'x' is invalid, expecting: true or false"):
        config(checkpoint={"parallel_write": {"pipeline_stage": "x"}})


def test_optimizer_and_scheduler_are_read_by_name_and_parameters() -> None:
    found = config(
        optimizer={"type": "Adam", "params": {"lr": 1}},
        scheduler={"type": "WarmupLR", "params": {"warmup_num_steps": 2}},
    )
    assert found.optimizer_name == ADAM_OPTIMIZER == "adam" and found.optimizer_params == {"lr": 1}
    assert found.scheduler_name == "WarmupLR" and found.scheduler_params == {"warmup_num_steps": 2}
    found = config(optimizer={"type": "External"})
    assert found.optimizer_name == "External" and found.optimizer_params is None and found.scheduler_params is None


def test_blocks_without_checks_have_their_defaults() -> None:
    found = config(
        activation_checkpointing={"cpu_checkpointing": True}, flops_profiler={"enabled": True}, aio={"queue_depth": 4}
    )
    assert found.activation_checkpointing_config.cpu_checkpointing
    assert found.activation_checkpointing_config.number_checkpoints is None
    assert found.flops_profiler_config.enabled and found.flops_profiler_config.profile_step == 1
    assert found.wall_clock_breakdown and not config().wall_clock_breakdown
    assert found.aio_config["queue_depth"] == 4 and found.aio_config["block_size"] == 1048576
    assert config(aio={"thread_count": 3}).aio_config["intra_op_parallelism"] == 3


@pytest.mark.parametrize(
    "key",
    [
        "amp",
        "elasticity",
        "compression_training",
        "quantize_training",
        "sparse_gradients",
        "sparse_attention",
        "curriculum_learning",
        "progressive_layer_drop",
        "eigenvalue",
        "graph_harvesting",
        "nebula",
    ],
)
def test_what_has_been_removed_is_refused(key: str) -> None:
    with pytest.raises(DeepSpeedConfigError, match=f'"{key}": it has been removed'):
        config(**{key: {"enabled": True}})


@pytest.mark.parametrize("key", ["mics_shard_size", "mics_hierarchical_params_gather", "zeropp_loco_param"])
def test_what_has_been_removed_of_zero_is_refused(key: str) -> None:
    with pytest.raises(DeepSpeedConfigError, match=f'"zero_optimization.{key}": it has been removed'):
        config(zero_optimization={"stage": 3, key: 1})


def test_everything_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    found = config(zero_optimization={"stage": 2})
    found.print("settings")
    found.print_user_config()
    printed = capsys.readouterr().out
    assert "gradient_clipping" in printed and '"stage": 2' in printed


# ---- Precision ----


@pytest.mark.parametrize("key", ["bf16", "bfloat16"])
def test_either_name_switches_bf16_on(key: str) -> None:
    assert get_bfloat16_config({key: {"enabled": True}}).enabled
    assert not get_bfloat16_config({key: {"enabled": "auto"}}).enabled and not get_bfloat16_config({}).enabled


def test_two_precisions_are_refused() -> None:
    with pytest.raises(AssertionError, match="bfloat16 and fp16 modes cannot be simultaneously enabled"):
        config(fp16={"enabled": True}, bf16={"enabled": True})


@pytest.mark.parametrize(
    "block",
    [
        {"loss_scale": -1},
        {"loss_scale": float("inf")},
        {"loss_scale": float("nan")},
        {"loss_scale": True},
        {"loss_scale": "large"},
        {"loss_scale": [1]},
        {"loss_scale_window": 0},
        {"loss_scale_window": 1.5},
        {"loss_scale_window": True},
        {"min_loss_scale": 0},
        {"min_loss_scale": False},
        {"scale": 1},
    ],
    ids=str,
)
def test_a_loss_scale_that_cannot_be_is_refused_by_its_name(block: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError, match=next(iter(block))):
        DeepSpeedFP16Config(enabled=True, **block)


def test_a_static_scale_needs_no_window() -> None:
    assert DeepSpeedFP16Config(enabled=True, loss_scale=138, loss_scale_window=0, min_loss_scale=0).loss_scale == 138
    assert DeepSpeedFP16Config(enabled=False, loss_scale_window=0).loss_scale_window == 0
    assert DeepSpeedFP16Config(enabled=True, loss_scale="8").loss_scale == 8


@pytest.mark.parametrize("model", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("accumulated", [None, "fp32", "fp16", "bf16"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_without_zero_gradients_accumulate_in_the_models_type(stage: int, model: str, accumulated: str | None) -> None:
    found = config(
        zero_optimization={"stage": stage},
        data_types={"grad_accum_dtype": accumulated},
        **({} if model == "fp32" else {model: {"enabled": True}}),
    )
    if stage == 0 and accumulated not in (None, model):
        with pytest.raises(NotImplementedError, match="grad_accum_dtype"):
            found.check_for_engine()
    else:
        found.check_for_engine()


# ---- ZeRO ----


def test_fields_have_a_long_and_a_short_name() -> None:
    for short, value in (
        ("prefetch_bucket_size", 5),
        ("param_persistence_threshold", 6),
        ("max_reuse_distance", 7),
        ("max_live_parameters", 8),
        ("gather_16bit_weights_on_model_save", True),
    ):
        for name in (short, f"stage3_{short}"):
            assert getattr(DeepSpeedZeroConfig(**{name: value}), short) == value


def test_old_fields_set_the_new_ones() -> None:
    found = DeepSpeedZeroConfig(cpu_offload_param=True, cpu_offload=True, cpu_offload_use_pin_memory=True)
    assert isinstance(found.offload_param, DeepSpeedZeroOffloadParamConfig) and found.offload_param.device == "cpu"
    assert isinstance(found.offload_optimizer, DeepSpeedZeroOffloadOptimizerConfig)
    assert DeepSpeedZeroConfig(cpu_offload=False).offload_optimizer is None
    assert DeepSpeedZeroConfig(stage3_gather_fp16_weights_on_model_save=True).gather_16bit_weights_on_model_save
    with pytest.raises(AssertionError, match="Cannot provide deprecated parameter 'cpu_offload' and replacing"):
        DeepSpeedZeroConfig(cpu_offload=True, offload_optimizer={"device": "cpu"})


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_exchanges_overlap_by_default_in_stage_3(stage: int) -> None:
    assert DeepSpeedZeroConfig(stage=stage).overlap_comm is (stage == 3)
    assert DeepSpeedZeroConfig(stage=stage, overlap_comm=True).overlap_comm is True


def test_offload_blocks_are_checked() -> None:
    assert (
        DeepSpeedZeroConfig().offload_param is None
        and DeepSpeedZeroConfig(offload_optimizer=None).offload_param is None
    )
    found = DeepSpeedZeroConfig(
        stage=3,
        offload_param={"device": OffloadDeviceEnum.nvme, "nvme_path": "/a", "buffer_size": 1e8, "max_in_cpu": 1e9},
        offload_optimizer={"device": "nvme", "nvme_path": "/a", "ratio": 0.3, "pipeline_write": True},
    )
    assert found.offload_param is not None and found.offload_optimizer is not None
    assert found.offload_param.device == "nvme" == OffloadDeviceEnum.nvme and found.offload_param.buffer_count == 5
    assert found.offload_param.nvme_path == Path("/a") and found.offload_param.buffer_size == 100_000_000
    assert found.offload_optimizer.pipeline and found.offload_optimizer.ratio == 0.3
    assert not DeepSpeedZeroOffloadOptimizerConfig().pipeline
    with pytest.raises(pydantic.ValidationError, match="'none', 'cpu' or 'nvme'"):
        DeepSpeedZeroOffloadParamConfig(device="gpu")
    with pytest.raises(pydantic.ValidationError, match="Partial offloading only supported for ZeRO Stage 3"):
        DeepSpeedZeroConfig(stage=2, offload_optimizer={"ratio": 0.3})


def test_leaf_modules_may_be_one_string() -> None:
    assert DeepSpeedZeroConfig().leaf_module.classes and DeepSpeedZeroConfig().leaf_module.names == []
    found = DeepSpeedZeroConfig(leaf_module={"classes": "A", "name_suffixes": ["b", "c"]}).leaf_module
    assert found.classes == ["A"] and found.name_suffixes == ["b", "c"]


def test_unknown_keys_of_zero_are_refused_and_auto_is_not_given() -> None:
    with pytest.raises(pydantic.ValidationError, match="Extra inputs are not permitted"):
        DeepSpeedZeroConfig(stages=3)
    assert (
        DeepSpeedZeroConfig(reduce_bucket_size="auto", stage3_prefetch_bucket_size="auto").prefetch_bucket_size == 5e7
    )
    assert config(zero_optimization=True).zero_optimization_stage == 1 and config(zero_optimization=True).zero_enabled


def test_an_odd_bucket_of_stage_2_is_refused_by_the_engine() -> None:
    with pytest.raises(AssertionError, match="allgather_bucket_size must be a multiple of nccl_start_alignment_factor"):
        config(zero_optimization={"stage": 2, "allgather_bucket_size": 3}).check_for_engine()
    config(zero_optimization={"stage": 1, "allgather_bucket_size": 3}).check_for_engine()


# ---- The configurations of widely read guides come to something, in either package's view ----

AUTO = dict.fromkeys(("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps"), "auto")
STAGE_3 = {
    "stage": 3,
    "overlap_comm": True,
    "contiguous_gradients": True,
    "sub_group_size": 1e9,
    "reduce_bucket_size": "auto",
    "stage3_prefetch_bucket_size": "auto",
    "stage3_param_persistence_threshold": "auto",
    "stage3_max_live_parameters": 1e9,
    "stage3_max_reuse_distance": 1e9,
    "stage3_gather_16bit_weights_on_model_save": True,
}
GUIDES: dict[str, dict[str, Any]] = {
    "minimal": {**AUTO, "fp16": {"enabled": "auto"}, "zero_optimization": {"stage": 2}},
    "speed": {
        **AUTO,
        "fp16": {
            "enabled": "auto",
            "loss_scale": 0,
            "initial_scale_power": 16,
            "loss_scale_window": 1000,
            "hysteresis": 2,
        },
        "zero_optimization": {
            "stage": 2,
            "overlap_comm": True,
            "reduce_scatter": True,
            "contiguous_gradients": True,
            "reduce_bucket_size": 5e8,
            "allgather_bucket_size": 5e8,
        },
        "gradient_clipping": "auto",
    },
    "memory": {
        **AUTO,
        "bf16": {"enabled": True},
        "optimizer": {
            "type": "AdamW",
            "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"},
        },
        "scheduler": {
            "type": "WarmupLR",
            "params": {"warmup_min_lr": "auto", "warmup_max_lr": "auto", "warmup_num_steps": "auto"},
        },
        "zero_optimization": {
            **STAGE_3,
            "offload_optimizer": {"device": "cpu", "pin_memory": True},
            "offload_param": {"device": OffloadDeviceEnum.cpu, "pin_memory": True},
        },
    },
    "nvme": {
        **AUTO,
        "zero_optimization": {
            **STAGE_3,
            "offload_optimizer": {
                "device": "nvme",
                "nvme_path": "/local_nvme",
                "pin_memory": True,
                "buffer_count": 4,
                "fast_init": False,
            },
            "offload_param": {
                "device": "nvme",
                "nvme_path": "/local_nvme",
                "pin_memory": True,
                "buffer_count": 5,
                "buffer_size": 1e8,
                "max_in_cpu": 1e9,
            },
        },
        "aio": {
            "block_size": 262144,
            "queue_depth": 32,
            "thread_count": 1,
            "single_submit": False,
            "overlap_events": True,
        },
    },
    "many keys": {
        "train_batch_size": 8,
        "steps_per_print": 2000,
        "wall_clock_breakdown": False,
        "memory_breakdown": False,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "communication_data_type": "fp16",
        "data_types": {"grad_accum_dtype": "fp32"},
        "activation_checkpointing": {
            "partition_activations": True,
            "cpu_checkpointing": True,
            "contiguous_memory_optimization": False,
            "number_checkpoints": 4,
            "synchronize_checkpoint_boundary": False,
            "profile": False,
        },
        "flops_profiler": {"enabled": False, "profile_step": 1},
        "torch_autocast": {"enabled": False},
        "managed_gradient_accumulation": True,
        "zero_optimization": {"stage": 1, "round_robin_gradients": True, "ignore_unused_parameters": True},
    },
}


@pytest.mark.parametrize("name", GUIDES)
def test_the_configuration_of_a_guide_comes_to_something(name: str) -> None:
    resolved = orlop.Config(GUIDES[name])
    assert resolved.warnings == []
    filled = GUIDES[name] | {
        "train_batch_size": 8,
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 2,
    }
    found = DeepSpeedConfig(filled)
    found.check_for_engine()
    assert found.zero_optimization_stage == resolved.get("zero_optimization.stage")
    assert found.zero_config.overlap_comm == GUIDES[name]["zero_optimization"].get("overlap_comm", False)


def test_the_guides_numbers_reach_the_engine() -> None:
    found = orlop.Config(GUIDES["nvme"])
    for path, value in (
        ("zero_optimization.offload_optimizer.buffer_count", 4),
        ("zero_optimization.offload_param.buffer_count", 5),
        ("zero_optimization.offload_param.buffer_size", 100_000_000),
        ("zero_optimization.offload_param.max_in_cpu", 1_000_000_000),
        ("aio.block_size", 262144),
        ("aio.queue_depth", 32),
        ("aio.intra_op_parallelism", 1),
    ):
        assert found.get(path) == value, path


# ---- What initialize does with it ----


def start(**changes: Any) -> Any:
    return deepspeed.initialize(model=nn.Linear(4, 2), config=BATCH | changes)[0]


def test_initialize_refuses_what_deepspeed_refuses() -> None:
    for changes, error in (
        ({"elasticity": {"enabled": False}}, DeepSpeedConfigError),
        ({"fp16": {"enabled": True, "loss_scale": -1}}, pydantic.ValidationError),
        ({"data_types": {"grad_accum_dtype": "bf16"}}, NotImplementedError),
        ({"zero_optimization": {"stage": 2, "allgather_bucket_size": 3}}, AssertionError),
        ({"train_micro_batch_size_per_gpu": 3}, AssertionError),
        ({"bf16": {"enabled": True, "bf16_optimizer_states": True}}, AssertionError),
    ):
        with pytest.raises(error):
            start(**changes)


def test_initialize_reads_hjson_and_sets_the_logger(tmp_path: Path) -> None:
    (tmp_path / "a.hjson").write_text("{\n  train_batch_size: 4  # samples\n  optimizer: {\n    type: AdamW\n  }\n}\n")
    logger, ours = deepspeed.utils.logging.logger, orlop._log.logger
    before, ours_before = logger.level, ours.level
    try:
        deepspeed.initialize(model=nn.Linear(4, 2), config=str(tmp_path / "a.hjson"))[0].close()
        assert logger.level == before
        start(log_level="ERROR", optimizer={"type": "AdamW"}).close()
        assert logger.level == logging.ERROR == ours.level
    finally:
        logger.setLevel(before)
        ours.setLevel(ours_before)
        orlop._log.follow_logger()


# ---- What the engine honours ----


class WithBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.register_buffer("scale", torch.ones(2))
        self.register_buffer("count", torch.zeros(1, dtype=torch.long))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * self.scale


def test_buffers_get_the_type_that_is_written() -> None:
    for given, expected in ((None, torch.float32), ("bf16", torch.bfloat16), ("torch.float16", torch.float16)):
        settings = {"bf16": {"enabled": True}, "data_types": {"buffer_dtype": given}}
        engine, *_ = orlop.initialize(model=WithBuffer(), config=settings)
        assert engine.module.linear.weight.dtype is torch.bfloat16
        assert engine.module.scale.dtype is expected and engine.module.count.dtype is torch.long
        engine.close()


def test_the_log_level_is_set_only_where_it_is_written() -> None:
    logger = orlop._log.logger
    before = logger.level
    try:
        for given, expected in (({}, before), ({"log_level": "ERROR"}, 40)):
            orlop.initialize(model=nn.Linear(4, 2), config=given)[0].close()
            assert logger.level == expected
    finally:
        logger.setLevel(before)
        orlop._log.follow_logger()


def test_memory_is_shown_where_it_is_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    for asked in (False, True):
        engine, *_ = orlop.initialize(model=nn.Linear(4, 2), config={"steps_per_print": 1, "memory_breakdown": asked})
        engine.backward(engine(torch.randn(2, 4)).square().mean())
        engine.step()
        engine.close()
        assert ("memory (host " in capfd.readouterr().out) is asked


def test_values_of_enumerations_and_types_of_torch_may_stand_in_a_dict() -> None:
    found = orlop.Config(
        {
            "zero_optimization": {"offload_optimizer": {"device": OffloadDeviceEnum.cpu}},
            "communication_data_type": torch.float16,
        }
    )
    assert found.get("zero_optimization.offload_optimizer.device") == "cpu"
    assert found.get("communication_data_type") == "fp16"
