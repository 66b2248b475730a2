"""DeepSpeed's view of a configuration: the values by the names that programs read, and DeepSpeed's own errors.

What a key does here, and what it comes to, is Orlop's: docs/config.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch

from .._missing import refuse_unknown
from . import constants as keys
from ._removed import removed_key
from ._source import read_config
from .config_utils import get_scalar_param
from .precision_config import get_bfloat16_config, get_float16_config
from .zero.config import ZeroStageEnum, get_zero_config

ADAGRAD_OPTIMIZER = "adagrad"
ADAM_OPTIMIZER = "adam"
ADAMW_OPTIMIZER = "adamw"
LAMB_OPTIMIZER = "lamb"
LION_OPTIMIZER = "lion"
MUADAM_OPTIMIZER = "muadam"
MUADAMW_OPTIMIZER = "muadamw"
MUON_OPTIMIZER = "muon"
MUSGD_OPTIMIZER = "musgd"
DEEPSPEED_OPTIMIZERS = [
    ADAGRAD_OPTIMIZER,
    ADAM_OPTIMIZER,
    ADAMW_OPTIMIZER,
    LAMB_OPTIMIZER,
    MUADAM_OPTIMIZER,
    MUADAMW_OPTIMIZER,
    MUSGD_OPTIMIZER,
    LION_OPTIMIZER,
    MUON_OPTIMIZER,
]
TORCH_ADAM_PARAM = "torch_adam"
ADAM_W_MODE = "adam_w_mode"
ADAM_W_MODE_DEFAULT = True

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_DTYPE_NAMES = {
    "float32": "fp32",
    "float": "fp32",
    "float16": "fp16",
    "half": "fp16",
    "bfloat16": "bf16",
}

_AIO = {
    "block_size": 1048576,
    "queue_depth": 8,
    "intra_op_parallelism": 1,
    "single_submit": False,
    "overlap_events": True,
    "use_gds": False,
}
_OLD_AIO_NAMES = {"thread_count": "intra_op_parallelism", "num_threads": "intra_op_parallelism"}
_FLOPS_PROFILER = {
    "enabled": False,
    "recompute_fwd_factor": 0.0,
    "profile_step": 1,
    "module_depth": -1,
    "top_modules": 1,
    "detailed": True,
    "output_file": None,
}
_ACTIVATION_CHECKPOINTING = {
    "partition_activations": False,
    "contiguous_memory_optimization": False,
    "cpu_checkpointing": False,
    "number_checkpoints": None,
    "synchronize_checkpoint_boundary": False,
    "profile": False,
}


__getattr__ = refuse_unknown(__name__)


class DeepSpeedConfigError(Exception):
    """A key that DeepSpeed refuses."""


class Block:
    """A block of the configuration with its defaults filled in: values are attributes."""

    def __init__(self, defaults: dict[str, Any], given: dict[str, Any] | None) -> None:
        self.__dict__.update(defaults | {name: value for name, value in (given or {}).items() if value != "auto"})

    def __getattr__(self, name: str) -> Any:  # for type checkers: the values are set in __init__
        raise AttributeError(name)

    def repr(self) -> dict[str, Any]:
        """The values by name."""
        return dict(self.__dict__)


def _getter(key: str, default: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda param_dict: get_scalar_param(param_dict, key, default)


get_gradient_clipping = _getter(keys.GRADIENT_CLIPPING, keys.GRADIENT_CLIPPING_DEFAULT)
get_log_level = _getter(keys.LOG_LEVEL, keys.LOG_LEVEL_DEFAULT)
get_steps_per_print = _getter(keys.STEPS_PER_PRINT, keys.STEPS_PER_PRINT_DEFAULT)
get_train_batch_size = _getter(keys.TRAIN_BATCH_SIZE, keys.TRAIN_BATCH_SIZE_DEFAULT)
get_train_micro_batch_size_per_gpu = _getter(
    keys.TRAIN_MICRO_BATCH_SIZE_PER_GPU, keys.TRAIN_MICRO_BATCH_SIZE_PER_GPU_DEFAULT
)
get_gradient_accumulation_steps = _getter(keys.GRADIENT_ACCUMULATION_STEPS, keys.GRADIENT_ACCUMULATION_STEPS_DEFAULT)
get_managed_gradient_accumulation = _getter(
    keys.MANAGED_GRADIENT_ACCUMULATION, keys.MANAGED_GRADIENT_ACCUMULATION_DEFAULT
)
get_dataloader_drop_last = _getter(keys.DATALOADER_DROP_LAST, keys.DATALOADER_DROP_LAST_DEFAULT)
get_dump_state = _getter(keys.DUMP_STATE, keys.DUMP_STATE_DEFAULT)
get_memory_breakdown = _getter(keys.MEMORY_BREAKDOWN, keys.MEMORY_BREAKDOWN_DEFAULT)
get_wall_clock_breakdown = _getter(keys.WALL_CLOCK_BREAKDOWN, keys.WALL_CLOCK_BREAKDOWN_DEFAULT)
get_prescale_gradients = _getter(keys.PRESCALE_GRADIENTS, keys.PRESCALE_GRADIENTS_DEFAULT)
get_gradient_predivide_factor = _getter(keys.GRADIENT_PREDIVIDE_FACTOR, keys.GRADIENT_PREDIVIDE_FACTOR_DEFAULT)
get_disable_allgather = _getter(keys.DISABLE_ALLGATHER, keys.DISABLE_ALLGATHER_DEFAULT)
get_zero_allow_untested_optimizer = _getter(
    keys.ZERO_ALLOW_UNTESTED_OPTIMIZER, keys.ZERO_ALLOW_UNTESTED_OPTIMIZER_DEFAULT
)
get_zero_force_ds_cpu_optimizer = _getter(keys.ZERO_FORCE_DS_CPU_OPTIMIZER, keys.ZERO_FORCE_DS_CPU_OPTIMIZER_DEFAULT)


def get_gradient_allreduce_op(param_dict: dict[str, Any]) -> str:
    """How gradients of ranks are joined, in lower case. Raises ValueError for an unknown word."""
    word = get_scalar_param(param_dict, keys.GRADIENT_ALLREDUCE_OP, keys.GRADIENT_ALLREDUCE_OP_DEFAULT)
    op = word.lower() if isinstance(word, str) else word
    if op not in ("mean", "sum"):
        raise ValueError(f"Invalid gradient_allreduce_op. Supported operations: ['mean', 'sum']. Got: {op!r}")
    return str(op)


def get_communication_data_type(
    param_dict: dict[str, Any],
    comm_type: str = keys.COMMUNICATION_DATA_TYPE,
    comm_data_type_default: str | None = keys.COMMUNICATION_DATA_TYPE_DEFAULT,
) -> torch.dtype | None:
    """The type of exchanged values. Raises ValueError for another."""
    value = get_scalar_param(param_dict, comm_type, comm_data_type_default)
    return None if value is None else _dtype_of(comm_type, value)


def _dtype_of(key: str, value: Any) -> torch.dtype:
    name = str(value).removeprefix("torch.").lower()
    name = _DTYPE_NAMES.get(name, name)
    if name not in DTYPES:
        raise ValueError(f"Invalid {key}. Supported data types: ['fp16', 'bf16', 'fp32']. Got: {value}")
    return DTYPES[name]


def get_optimizer_name(param_dict: dict[str, Any]) -> str | None:
    """optimizer.type."""
    name: str | None = (param_dict.get(keys.OPTIMIZER) or {}).get(keys.TYPE)
    return name


def get_optimizer_params(param_dict: dict[str, Any]) -> dict[str, Any] | None:
    """optimizer.params, where there is a type."""
    if get_optimizer_name(param_dict) is None:
        return None
    params: dict[str, Any] | None = param_dict[keys.OPTIMIZER].get(keys.OPTIMIZER_PARAMS)
    return params


def get_scheduler_name(param_dict: dict[str, Any]) -> str | None:
    """scheduler.type."""
    name: str | None = (param_dict.get(keys.SCHEDULER) or {}).get(keys.TYPE)
    return name


def get_scheduler_params(param_dict: dict[str, Any]) -> dict[str, Any] | None:
    """scheduler.params, where there is a type."""
    if get_scheduler_name(param_dict) is None:
        return None
    params: dict[str, Any] | None = param_dict[keys.SCHEDULER].get(keys.SCHEDULER_PARAMS)
    return params


def get_checkpoint_tag_validation_mode(checkpoint_params: dict[str, Any]) -> str:
    """checkpoint.tag_validation in upper case. Raises DeepSpeedConfigError for an unknown word."""
    mode = str(checkpoint_params.get(keys.CHECKPOINT_TAG_VALIDATION, keys.CHECKPOINT_TAG_VALIDATION_DEFAULT)).upper()
    if mode not in keys.CHECKPOINT_TAG_VALIDATION_MODES:
        raise DeepSpeedConfigError(
            f"Checkpoint config contains invalid tag_validation value of {mode}, expecting one of "
            f"{keys.CHECKPOINT_TAG_VALIDATION_MODES}"
        )
    return mode


def get_checkpoint_parallel_write_pipeline(checkpoint_params: dict[str, Any]) -> bool:
    """checkpoint.parallel_write.pipeline_stage. Raises DeepSpeedConfigError for what is no boolean."""
    value = (checkpoint_params.get("parallel_write") or {}).get("pipeline_stage", False)
    if not isinstance(value, bool):
        raise DeepSpeedConfigError(
            f"checkpoint::parallel_write::pipeline_stage value of '{value}' is invalid, expecting: true or false"
        )
    return value


def _aio_config(block: dict[str, Any]) -> dict[str, Any]:
    """The block with its defaults; the old names of intra_op_parallelism stand for it, as they do in the engine."""
    given = {_OLD_AIO_NAMES.get(name, name): value for name, value in block.items()}
    return Block(_AIO, given).repr()


class DeepSpeedConfig:
    """A configuration, checked as DeepSpeed checks it.

    config: a dict, the path of a file of JSON or Hjson, or such text in base64. Its values are attributes by the names
    that DeepSpeed has; `_param_dict` is the configuration as it was given. Raises DeepSpeedConfigError, ValueError (of
    which pydantic's ValidationError is one) and AssertionError as DeepSpeed does.
    """

    def __init__(self, config: Any, mpu: Any = None, mesh_device: Any = None) -> None:
        self._param_dict = read_config(config)
        sentence = removed_key(self._param_dict)
        if sentence is not None:
            raise DeepSpeedConfigError(sentence)
        self.global_rank, self.world_size = _place(mpu)
        given = {key: value for key, value in self._param_dict.items() if value != "auto"}
        self._read_blocks(given)
        self._read_values(given)
        self._set_batch_related_parameters(given)
        self._do_error_check()

    def _read_blocks(self, given: dict[str, Any]) -> None:
        self.zero_config = get_zero_config(given)
        self.zero_optimization_stage = int(self.zero_config.stage)
        self.zero_enabled = self.zero_optimization_stage > 0
        self.float16_config = get_float16_config(given)
        self.bfloat16_config = get_bfloat16_config(given)
        assert not (self.float16_config.enabled and self.bfloat16_config.enabled), (
            "bfloat16 and fp16 modes cannot be simultaneously enabled: a model has one type; switch one of them off"
        )
        self.activation_checkpointing_config = Block(_ACTIVATION_CHECKPOINTING, given.get("activation_checkpointing"))
        self.flops_profiler_config = Block(_FLOPS_PROFILER, given.get("flops_profiler"))
        self.aio_config = _aio_config(given.get("aio") or {})
        self._read_checkpoint(given.get(keys.CHECKPOINT) or {})

    def _read_checkpoint(self, block: dict[str, Any]) -> None:
        mode = get_checkpoint_tag_validation_mode(block)
        self.checkpoint_tag_validation_enabled = mode != "IGNORE"
        self.checkpoint_tag_validation_fail = mode == "FAIL"
        self.checkpoint_parallel_write_pipeline = get_checkpoint_parallel_write_pipeline(block)
        self.load_universal_checkpoint = block.get(keys.LOAD_UNIVERSAL_CHECKPOINT, False)
        self.use_node_local_storage = block.get(keys.USE_NODE_LOCAL_STORAGE_CHECKPOINT, False)
        self.checkpoint_config = {"tag_validation": mode, "checkpoint_serialization": True, "writer": None} | {
            name: block[name] for name in ("checkpoint_serialization", "writer") if name in block
        }

    def _read_values(self, given: dict[str, Any]) -> None:
        self.gradient_clipping = get_gradient_clipping(given)
        self.gradient_allreduce_op = get_gradient_allreduce_op(given)
        self.prescale_gradients = get_prescale_gradients(given)
        self.gradient_predivide_factor = get_gradient_predivide_factor(given)
        self.communication_data_type = get_communication_data_type(given)
        self.seq_parallel_communication_data_type = get_communication_data_type(
            given, keys.SEQ_PARALLEL_COMMUNICATION_DATA_TYPE, keys.SEQ_PARALLEL_COMMUNICATION_DATA_TYPE_DEFAULT
        )
        self.disable_allgather = get_disable_allgather(given)
        self.managed_gradient_accumulation = get_managed_gradient_accumulation(given)
        self.steps_per_print = get_steps_per_print(given)
        self.wall_clock_breakdown = get_wall_clock_breakdown(given) or self.flops_profiler_config.enabled
        self.memory_breakdown = get_memory_breakdown(given)
        self.dump_state = get_dump_state(given)
        self.log_level = get_log_level(given)
        self.dataloader_drop_last = get_dataloader_drop_last(given)
        self.zero_allow_untested_optimizer = get_zero_allow_untested_optimizer(given)
        self.zero_force_ds_cpu_optimizer = get_zero_force_ds_cpu_optimizer(given)
        self.optimizer_name = _lower_case_of_ours(get_optimizer_name(given))
        self.optimizer_params = get_optimizer_params(given)
        self.optimizer_legacy_fusion = (given.get(keys.OPTIMIZER) or {}).get(keys.LEGACY_FUSION, False)
        self.scheduler_name = get_scheduler_name(given)
        self.scheduler_params = get_scheduler_params(given)
        types = given.get(keys.DATA_TYPES) or {}
        self.grad_accum_dtype = types.get(keys.GRAD_ACCUM_DTYPE)
        self.param_dtype = types.get(keys.PARAM_DTYPE)
        self.buffer_dtype = types.get(keys.BUFFER_DTYPE)
        autocast = given.get("torch_autocast") or {}
        self.torch_autocast_enabled = autocast.get("enabled", False)
        dtype = autocast.get("dtype")
        self.torch_autocast_dtype = None if dtype is None else _dtype_of("torch_autocast.dtype", dtype)
        self.torch_autocast_lower_precision_safe_modules = autocast.get("lower_precision_safe_modules")

    @property
    def given(self) -> dict[str, Any]:
        """The configuration as it was given."""
        return self._param_dict

    # ---- Batch sizes: train = micro x accumulation steps x ranks ----

    def _set_batch_related_parameters(self, given: dict[str, Any]) -> None:
        train, micro, steps = (
            get_train_batch_size(given),
            get_train_micro_batch_size_per_gpu(given),
            get_gradient_accumulation_steps(given),
        )
        assert train is not None or micro is not None, (
            "Either train_batch_size or train_micro_batch_size_per_gpu needs to be provided: write the second, the "
            "samples of one forward pass"
        )
        if steps is None:
            steps = 1 if train is None or micro is None else train // (micro * self.world_size)
        if micro is None:
            micro = train // (steps * self.world_size)
        self.train_batch_size = micro * steps * self.world_size if train is None else train
        self.train_micro_batch_size_per_gpu = micro
        self.gradient_accumulation_steps = steps
        self._check_batch_sizes()

    def _check_batch_sizes(self) -> None:
        train, micro, steps = (
            self.train_batch_size,
            self.train_micro_batch_size_per_gpu,
            self.gradient_accumulation_steps,
        )
        assert train > 0, f"Train batch size: {train} has to be greater than 0"
        assert train == micro * steps * self.world_size, (
            "Check batch related parameters. train_batch_size is not equal to micro_batch_per_gpu * "
            f"gradient_acc_step * world_size {train} != {micro} * {steps} * {self.world_size}; make them agree, or "
            "leave one of the three out"
        )
        assert micro > 0, f"Micro batch size per gpu: {micro} has to be greater than 0"
        assert steps > 0, f"Gradient accumulation steps: {steps} has to be greater than 0"

    # ---- Checks ----

    def _do_error_check(self) -> None:
        if self.gradient_allreduce_op == "sum" and self.zero_optimization_stage == ZeroStageEnum.weights:
            raise ValueError("gradient_allreduce_op='sum' is not supported with ZeRO stage 3")

    def check_for_engine(self) -> None:
        """What `deepspeed.initialize` refuses besides: raises AssertionError and NotImplementedError."""
        self.zero_config.check_buckets()
        assert (
            self.managed_gradient_accumulation or not self.zero_config.overlap_comm or self.zero_optimization_stage > 1
        ), "managed_gradient_accumulation=False supports ZeRO overlap_comm only with ZeRO stage 2 and 3"
        bf16 = self.bfloat16_config
        assert bf16.bf16_master_weights_and_grads or not bf16.bf16_optimizer_states, (
            "bf16_optimizer_states requires bf16_master_weights_and_grads"
        )
        if self.zero_enabled or self.grad_accum_dtype is None:
            return
        model = "fp16" if self.float16_config.enabled else "bf16" if bf16.enabled else "fp32"
        if _dtype_of("grad_accum_dtype", self.grad_accum_dtype) is not DTYPES[model]:
            raise NotImplementedError(
                f"data_types.grad_accum_dtype ({self.grad_accum_dtype}) of a model in {model} needs ZeRO: write "
                '"zero_optimization": {"stage": 1}, or leave it out'
            )

    # ---- Printing ----

    def print_user_config(self) -> None:
        """Prints the configuration as it was given."""
        print(json.dumps(self._param_dict, sort_keys=True, indent=4, default=str))

    def print(self, name: str) -> None:
        """Prints every value."""
        print(f"{name}:")
        for key, value in sorted(vars(self).items()):
            if key != "_param_dict":
                print(f"  {key} {'.' * (29 - len(key))} {value.repr() if isinstance(value, Block) else value}")


def _place(mpu: Any) -> tuple[int, int]:
    """This rank, and how many share the data."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    world_size = distributed.get_world_size() if mpu is None else mpu.get_data_parallel_world_size()
    return distributed.get_rank(), int(world_size)


def _lower_case_of_ours(name: str | None) -> str | None:
    return name.lower() if name is not None and name.lower() in DEEPSPEED_OPTIMIZERS else name
