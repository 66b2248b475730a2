"""deepspeed.checkpointing: what goes in and out of a checkpoint, and what `configure` understands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import deepspeed
import pytest
import torch
from deepspeed.runtime.activation_checkpointing import checkpointing
from deepspeed.runtime.activation_checkpointing.checkpointing import checkpoint, non_reentrant_checkpoint
from orlop import _kept_inputs
from orlop import checkpointing as ours
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(_kept_inputs.OnHost, "keeps_host_tensors", True)
    monkeypatch.setattr(ours, "_state", ours._State())
    yield


CHECKPOINTS = pytest.mark.parametrize("way", [checkpoint, non_reentrant_checkpoint])


def outcome(call: Any, module: nn.Module, *inputs: Any, **named: Any) -> tuple[Any, list[Tensor]]:
    """Outputs, and gradients of the tensors among the inputs and of the parameters."""
    inputs = tuple(_copy_of(value) for value in inputs)
    module.zero_grad()
    outputs = call(module, *inputs, **named)
    listed = outputs if isinstance(outputs, tuple) else (outputs,)
    sum(value.sum() for value in listed if _is_float(value) and value.requires_grad).backward()
    tensors = [value for value in (*inputs, *module.parameters()) if _is_float(value)]
    return listed, [tensor.grad for tensor in tensors]


def _copy_of(value: Any) -> Any:
    return value.detach().clone().requires_grad_(value.requires_grad) if _is_float(value) else value


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else a == b


def check(way: Any, module: nn.Module, *inputs: Any, **named: Any) -> None:
    expected = outcome(lambda module, *args, **kwargs: module(*args, **kwargs), module, *inputs, **named)
    for in_cpu in (False, True):
        deepspeed.checkpointing.configure(None, checkpoint_in_cpu=in_cpu)
        outputs, gradients = outcome(way, module, *inputs, **named)
        assert len(outputs) == len(expected[0])
        assert all(same(found, value) for found, value in zip(outputs, expected[0], strict=True))
        assert all(same(found, value) for found, value in zip(gradients, expected[1], strict=True))


class Masked(nn.Module):
    """Its inputs may come in any order, with things that are no tensors between them."""

    def __init__(self, order: list[int], returned: str = "one") -> None:
        super().__init__()
        self.layer = nn.Linear(40, 40)
        self.order, self.returned = order, returned

    def forward(self, *inputs: Any, scale: Any = None) -> Any:
        x, mask, flag, nothing, number = (inputs[place] for place in self.order)
        assert nothing is None and number == 3 and isinstance(flag, bool)
        y = self.layer(x) * mask if flag else self.layer(x)
        y = y if scale is None else y * scale
        return {
            "one": y,
            "tuple of one": (y,),
            "several": (y, y.square()),
            "not only tensors": (None, y, True, 7, "text", y.sum(), mask > 0),
        }[self.returned]


def inputs_in(order: list[int], x_has_grad: bool = True, flag: bool = True) -> list[Any]:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(40, 40, generator=generator).requires_grad_(x_has_grad)
    values: list[Any] = [x, (torch.rand(40, 40, generator=generator) > 0.5).float(), flag, None, 3]
    placed = list(values)
    for place, value in zip(order, values, strict=True):
        placed[place] = value
    return placed


@CHECKPOINTS
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 1, 0, 3]])
@pytest.mark.parametrize("x_has_grad", [True, False])
def test_tensors_booleans_none_and_numbers_come_in_any_order(way: Any, order: list[int], x_has_grad: bool) -> None:
    check(way, Masked(order), *inputs_in(order, x_has_grad))


@CHECKPOINTS
@pytest.mark.parametrize("returned", ["one", "tuple of one", "several", "not only tensors"])
def test_one_or_several_outputs_come_back(way: Any, returned: str) -> None:
    check(way, Masked([0, 1, 2, 3, 4], returned), *inputs_in([0, 1, 2, 3, 4], flag=False))


@CHECKPOINTS
def test_keyword_arguments_are_passed_on(way: Any) -> None:
    scale = torch.randn(40, 40, requires_grad=True)
    check(way, Masked([0, 1, 2, 3, 4]), *inputs_in([0, 1, 2, 3, 4]), scale=scale)
    assert scale.grad is not None


@CHECKPOINTS
def test_dropout_is_the_same_the_second_time(way: Any) -> None:
    torch.manual_seed(9)
    dropout, x = nn.Dropout(0.5), torch.randn(40, 40, requires_grad=True)
    y = way(dropout, x)
    y.sum().backward()
    assert torch.equal(x.grad != 0, y != 0)


def test_the_function_that_megatron_calls_collects_its_outputs() -> None:
    collected: list[Any] = []
    x = torch.randn(40, 40, requires_grad=True)
    checkpointing.CheckpointFunction.apply(lambda x, flag: (x.square(), flag), collected, x, True)
    assert collected[1] is True
    collected[0].sum().backward()
    assert torch.equal(x.grad, 2 * x.detach())


# ---- configure ----


def test_the_module_is_an_attribute_of_the_package() -> None:
    assert deepspeed.checkpointing is checkpointing
    assert not deepspeed.checkpointing.is_configured()


def test_contiguous_checkpointing_needs_the_number_of_layers() -> None:
    with pytest.raises(AssertionError, match="number of layers"):
        deepspeed.checkpointing.configure(None, contiguous_checkpointing=True)
    deepspeed.checkpointing.configure(None, contiguous_checkpointing=True, num_checkpoints=2)
    assert deepspeed.checkpointing.is_configured()


BLOCK = {
    "activation_checkpointing": {
        "partition_activations": True,
        "cpu_checkpointing": True,
        "contiguous_memory_optimization": True,
        "number_checkpoints": 4,
        "synchronize_checkpoint_boundary": True,
        "profile": True,
    }
}


@pytest.mark.parametrize("as_file", [False, True])
def test_the_configurations_block_counts_less_than_the_arguments(as_file: bool, tmp_path: Path) -> None:
    config: Any = {"train_batch_size": 1} | BLOCK
    if as_file:
        (tmp_path / "ds_config.json").write_text(json.dumps(config))
        config = str(tmp_path / "ds_config.json")
    deepspeed.checkpointing.configure(None, deepspeed_config=config, profile=False)
    assert ours.settings() == {
        "partition_activations": True,
        "checkpoint_in_cpu": True,
        "contiguous_checkpointing": True,
        "num_checkpoints": 4,
        "synchronize": True,
        "profile": False,
    }
    x = torch.randn(40, 40, requires_grad=True)
    deepspeed.checkpointing.checkpoint(torch.square, x).sum().backward()
    assert torch.equal(x.grad, 2 * x.detach())


def test_initialize_configures_it_from_the_block() -> None:
    model = nn.Linear(4, 4)
    engine, *_ = deepspeed.initialize(
        model=model, model_parameters=model.parameters(), config={"train_batch_size": 1, **optimizer()} | BLOCK
    )
    assert deepspeed.checkpointing.is_configured() and ours.settings()["num_checkpoints"] == 4
    engine.destroy()


def optimizer() -> dict[str, Any]:
    return {"optimizer": {"type": "AdamW", "params": {"lr": 1e-3}}}


def test_the_setters_of_megatron_change_what_they_name() -> None:
    deepspeed.checkpointing.set_num_layers(5)
    deepspeed.checkpointing.partition_activations_in_checkpoint(True)
    assert ours.settings()["num_checkpoints"] == 5 and ours.settings()["partition_activations"]


@pytest.mark.parametrize("spelling", ["model_parallel", "tensor_model_parallel"])
def test_the_model_parallel_unit_says_which_rank_this_is(spelling: str) -> None:
    class Unit:
        pass

    values = {"world_size": 1, "rank": 0, "group": None}
    unit = Unit()
    for name, value in values.items():
        setattr(unit, f"get_{spelling}_{name}", lambda value=value: value)
    deepspeed.checkpointing.configure(unit, partition_activations=True)
    assert ours.model_parallel_rank() == 0


def test_random_states_are_megatrons() -> None:
    deepspeed.checkpointing.model_parallel_cuda_manual_seed(1234)
    tracker = deepspeed.checkpointing.get_cuda_rng_tracker()
    assert isinstance(tracker, checkpointing.CudaRNGStatesTracker)
    with tracker.fork():
        named = torch.rand(3)
    assert torch.equal(named, torch.rand(3, generator=torch.Generator().manual_seed(1234 + 2718)))
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(1234)))
    deepspeed.checkpointing.model_parallel_reconfigure_tp_seed(1)
    with tracker.fork():
        assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(1 + 2718)))


def test_what_is_not_here_says_so() -> None:
    with pytest.raises(NotImplementedError, match="PartitionedTensor"):
        checkpointing.PartitionedTensor(torch.ones(2))
    with pytest.raises(AttributeError, match="not provided by Orlop"):
        _ = checkpointing.gather_partitioned_activations
