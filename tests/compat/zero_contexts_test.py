"""zero.Init and GatheredParameters as scripts for DeepSpeed use them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import deepspeed
import pytest
import torch
from deepspeed.runtime.zero import GatheredParameters, Init, ZeroParamStatus, partition_parameters
from deepspeed.runtime.zero.partition_parameters import partitioned_param_data_shape
from torch import Tensor, nn

torch.set_num_threads(1)

STAGE_3 = {"train_batch_size": 4, "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}
ADAM = {"optimizer": {"type": "AdamW", "params": {"lr": 1e-2}}}


def is_scattered(parameter: Any) -> bool:
    return (
        parameter.ds_status is ZeroParamStatus.NOT_AVAILABLE
        and parameter.numel() == 0
        and parameter.shape == torch.Size(partitioned_param_data_shape)
    )


def test_parameters_of_the_block_are_scattered_and_those_outside_are_not() -> None:
    with Init(config_dict_or_path=STAGE_3):
        inside = nn.Linear(6, 3)
    outside = nn.Linear(6, 3)
    assert is_scattered(inside.weight) and is_scattered(inside.bias)
    assert (inside.weight.ds_shape, inside.weight.ds_numel) == (torch.Size([3, 6]), 18)
    assert inside.weight.ds_tensor.shape == (18,) and not inside.weight.ds_persist
    assert not hasattr(outside.weight, "ds_id") and outside.weight.numel() == 18
    with GatheredParameters(inside.weight):
        assert inside.weight.ds_status is ZeroParamStatus.AVAILABLE and inside.weight.shape == (3, 6)
        assert torch.equal(inside.weight.flatten(), inside.weight.ds_tensor)
        assert is_scattered(inside.bias)
    assert is_scattered(inside.weight)


def test_without_a_configuration_parameters_become_fp16_and_other_tensors_stay() -> None:
    with Init():
        layer = nn.Linear(6, 3)
        assert layer.weight.ds_tensor.dtype == torch.float16
        assert torch.LongTensor([3, 3]).dtype == torch.int64 and torch.arange(3.0).dtype == torch.float32
    assert torch.distributed.is_initialized() and torch.distributed.get_rank() == deepspeed.comm.get_rank() == 0
    assert {parameter.dtype for parameter in layer.parameters()} == {torch.float16}


PRECISIONS: list[tuple[dict[str, Any], torch.dtype]] = [
    ({}, torch.float32),
    ({"bf16": {"enabled": True}}, torch.bfloat16),
    ({"fp16": {"enabled": True}}, torch.float16),
]


@pytest.mark.parametrize(("section", "dtype"), PRECISIONS)
def test_the_type_is_that_of_the_configuration(section: dict[str, Any], dtype: torch.dtype) -> None:
    with Init(config=STAGE_3 | section):
        layer = nn.Linear(6, 3)
    assert layer.weight.dtype == layer.weight.ds_tensor.dtype == dtype


def test_auto_in_keys_that_it_does_not_need() -> None:
    keys = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    auto = dict.fromkeys(keys, "auto")
    zero = STAGE_3["zero_optimization"] | {"reduce_bucket_size": "auto", "stage3_prefetch_bucket_size": "auto"}
    settings = auto | {"zero_optimization": zero, "gradient_clipping": "auto", "bf16": {"enabled": "auto"}}
    with Init(config_dict_or_path=settings):
        layer = nn.Linear(2, 2)
    assert is_scattered(layer.weight) and layer.weight.dtype == torch.float32


def test_disabled_it_does_nothing() -> None:
    with Init(config_dict_or_path=STAGE_3, enabled=False):
        layer = nn.Linear(2, 2)
    assert not hasattr(layer.weight, "ds_id")


def test_a_model_that_is_there() -> None:
    model = nn.Linear(6, 3)
    expected = copy.deepcopy(model)
    Init(module=model, config_dict_or_path=STAGE_3)
    assert is_scattered(model.weight)
    with GatheredParameters(model.parameters()):
        assert torch.equal(model.weight, expected.weight)


class GrandPa(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.grandpa = nn.Parameter(torch.ones(5))
        self.grandpa.data = (self.grandpa.data + 1).data


class Pa(GrandPa):
    def __init__(self) -> None:
        super().__init__()
        self.pa = nn.Parameter(torch.ones(5))
        self.grandpa.data = (self.grandpa.data + 1).data


class Son(Pa):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 5)
        with torch.no_grad():
            self.inner.weight.fill_(2.0)
            self.pa.mul_(3)


def test_constructors_of_bases_and_of_inner_modules_all_count() -> None:
    with Init(config=STAGE_3):
        model = Son()
    assert all(is_scattered(parameter) for parameter in model.parameters())
    with GatheredParameters([*model.parameters(recurse=False), model.inner.weight]):
        assert model.grandpa.tolist() == [3.0] * 5 and model.pa.tolist() == [3.0] * 5
        assert model.inner.weight.unique().tolist() == [2.0]


def test_blocks_in_blocks_classes_of_the_block_and_initialize_inside() -> None:
    functions = torch.empty, torch.arange, nn.Linear.__init__, nn.Module.__init_subclass__
    with Init(config_dict_or_path=STAGE_3):
        with Init(config_dict_or_path=STAGE_3):

            class Declared(nn.Module):
                def __init__(self) -> None:
                    super().__init__()
                    self.fc = nn.Linear(4, 4)

                def forward(self, x: Tensor) -> Tensor:
                    return self.fc(x)

            first = Declared()
        assert hasattr(first.fc.weight, "ds_id")
        engine, *_ = deepspeed.initialize(model=first, config=STAGE_3 | ADAM)
        assert engine(torch.ones(1, 4)).shape == (1, 4)
        second = nn.Linear(5, 5)
    assert is_scattered(engine.fc.weight) and is_scattered(second.weight)
    assert functions == (torch.empty, torch.arange, nn.Linear.__init__, nn.Module.__init_subclass__)
    engine.destroy()


def test_skip_init_and_the_meta_device() -> None:
    with Init(config_dict_or_path=STAGE_3):
        layer = nn.utils.skip_init(nn.Linear, 4, 6)
        with torch.device("meta"):
            shapes = nn.Linear(2, 2)
    assert is_scattered(layer.weight)
    assert shapes.weight.is_meta


def test_names_that_transformers_sets_inside() -> None:
    assert deepspeed.zero is deepspeed.runtime.zero and deepspeed.zero.partition_parameters is partition_parameters
    before = partition_parameters.zero_wrapper_for_fp_tensor_constructor
    assert before(torch.ones, torch.half) is torch.ones
    assert partition_parameters._orig_torch_arange is torch.arange
    first = Init.param_id
    Init.param_id = 1000
    try:
        with Init(config_dict_or_path=STAGE_3):
            assert nn.Linear(2, 2).weight.ds_id == 1000
        assert Init.param_id == 1002
    finally:
        Init.param_id = first


# ---- Gathering ----


def test_changes_count_with_a_rank_that_makes_them() -> None:
    with Init(config_dict_or_path=STAGE_3):
        layer = nn.Linear(4, 2)
    with GatheredParameters([layer.weight, layer.bias], modifier_rank=0), torch.no_grad():
        layer.weight.zero_()
        layer.bias.data = torch.ones(2)
    assert is_scattered(layer.weight)
    with GatheredParameters(iter(layer.parameters())):
        assert layer.weight.count_nonzero() == 0 and layer.bias.tolist() == [1, 1]


def test_parameters_that_are_always_whole_are_left_alone() -> None:
    layer = nn.Linear(4, 2)
    with GatheredParameters(layer.parameters(), modifier_rank=0), torch.no_grad():
        layer.weight.zero_()
    assert layer.weight.count_nonzero() == 0
    with GatheredParameters(layer.weight, enabled=False):
        assert layer.weight.numel() == 8


@pytest.mark.parametrize("with_engine", [False, True])
def test_sanity_checks_refuse_a_change_without_a_rank(with_engine: bool) -> None:
    checked = {
        "train_batch_size": 4,
        "zero_optimization": STAGE_3["zero_optimization"] | {"enable_sanity_checks": True},
    }
    with Init(config_dict_or_path=checked):
        layer = nn.Linear(4, 2)
    engine = deepspeed.initialize(model=layer, config=checked | ADAM)[0] if with_engine else None
    with GatheredParameters(layer.weight):
        before = layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match="in-place modification"), GatheredParameters(layer.weight), torch.no_grad():
        layer.weight.add_(1)
    assert layer.weight.numel() == 0
    with GatheredParameters(layer.weight, modifier_rank=0), torch.no_grad():
        assert torch.equal(layer.weight, before)
        layer.weight.add_(1)
    with GatheredParameters(layer.weight):
        assert torch.equal(layer.weight, before + 1)
    if engine is not None:
        engine.destroy()


def test_blocks_of_the_same_parameter_may_overlap() -> None:
    with Init(config_dict_or_path=STAGE_3):
        layer = nn.Linear(4, 2)
    with GatheredParameters(layer.weight):
        with GatheredParameters(layer.weight):
            pass
        assert layer.weight.numel() == 8
    assert is_scattered(layer.weight)
    layer.weight.all_gather()
    assert layer.weight.numel() == 8
    layer.weight.partition()
    assert is_scattered(layer.weight)


def test_values_on_nvme_are_said_to_be_elsewhere(tmp_path: Path) -> None:
    offload = {"offload_param": {"device": "nvme", "nvme_path": str(tmp_path)}}
    with Init(config_dict_or_path=STAGE_3 | {"zero_optimization": STAGE_3["zero_optimization"] | offload}):
        layer = nn.Linear(64, 64)
    assert is_scattered(layer.weight)
    assert layer.weight.ds_tensor.shape == (64 * 64,) and layer.weight.ds_tensor.is_meta
    layer.weight.all_gather()
    assert layer.weight.shape == (64, 64) and layer.weight.count_nonzero() > 0
    layer.weight.partition()
    assert is_scattered(layer.weight)
