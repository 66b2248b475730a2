"""Every form of deepspeed.initialize's arguments."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

import deepspeed
import orlop
import pytest
import torch
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.fp16.fused_optimizer import FP16_Optimizer
from deepspeed.runtime.fp16.unfused_optimizer import FP16_UnfusedOptimizer
from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from deepspeed.runtime.zero.utils import ZeRORuntimeException
from deepspeed.utils import RepeatingLoader
from engine_models import LEARNING, batches, config, engine_of, loss_of, model, offloaded, plain_losses, train, values
from torch import nn

TORCH = {"type": "AdamW", "params": {"torch_adam": True}}


def without(key: str, **settings: Any) -> dict[str, Any]:
    found = config(**settings)
    del found[key]
    return found


# ---- The configuration ----


def test_the_configuration_comes_from_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "ds_config.json"
    path.write_text(json.dumps(config(stage=2) | {"steps_per_print": 10}), encoding="utf-8")
    args = argparse.Namespace(local_rank=0, deepspeed=True, deepspeed_config=str(path))
    for given in (
        {"config": config(stage=2)},
        {"config_params": config(stage=2)},
        {"config": str(path)},
        {"args": args},
    ):
        net = model()
        engine, optimizer, loader, scheduler = deepspeed.initialize(
            model=net, model_parameters=net.parameters(), **given
        )
        assert type(engine) is deepspeed.DeepSpeedEngine is deepspeed.runtime.engine.DeepSpeedEngine
        assert engine.config["zero_optimization"] == {"stage": 2}
        assert engine.optimizer is optimizer and loader is None and scheduler is None
        engine.destroy()


def test_the_callers_dict_stays_theirs() -> None:
    given = config(stage=3)
    before = json.dumps(given)
    engine = deepspeed.initialize(model=model(), config=given)[0]
    engine.config["zero_optimization"]["stage"] = 9
    assert json.dumps(given) == before
    engine.destroy()


def test_no_model_and_no_configuration_are_said() -> None:
    with pytest.raises(AssertionError, match="requires a model"):
        deepspeed.initialize(config=config())
    with pytest.raises(AssertionError, match="requires a configuration"):
        deepspeed.initialize(model=model())


def test_numbers_as_programs_write_them() -> None:
    engine = engine_of(
        zero_optimization={
            "stage": 3,
            "reduce_bucket_size": 5e8,
            "sub_group_size": 1e9,
            "stage3_max_live_parameters": 1e9,
        },
        steps_per_print=float("inf"),
        fp16={"enabled": False, "loss_scale": 0},
        bf16={"enabled": True},
        zero_allow_untested_optimizer=True,
    )
    assert engine.bfloat16_enabled() and not engine.fp16_enabled()
    engine.destroy()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"optimizer": {"type": "NoSuchThing"}}, "NoSuchThing.*there is none"),
        ({"optimizer": {"type": "AdamW", "params": {"max_grad_norm": 1.0}}}, "gradient_clipping"),
    ],
)
def test_what_cannot_be_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(orlop.ConfigError, match=sentence):
        engine_of(**changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fp16": {"enabled": True}, "bf16": {"enabled": True}}, "bfloat16 and fp16 modes cannot be"),
        ({"train_batch_size": 7}, "train_batch_size is not equal to micro_batch_per_gpu .* 7 != 4"),
        (
            {"managed_gradient_accumulation": False, "zero_optimization": {"stage": 1, "overlap_comm": True}},
            "overlap_comm only with ZeRO stage 2",
        ),
    ],
)
def test_what_deepspeed_asserts_is_asserted(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        engine_of(**changes)


@pytest.mark.parametrize("word", ["max", "sum"])
def test_gradients_are_joined_in_a_known_way(word: str) -> None:
    with pytest.raises(ValueError, match="gradient_allreduce_op"):
        engine_of(stage=3, gradient_allreduce_op=word)


def test_every_call_says_so_on_the_logger() -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = deepspeed.utils.logger
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        for _ in range(2):
            engine_of().destroy()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert sum("DeepSpeed info" in line and "Orlop" in line for line in lines) == 2


# ---- The optimizer ----


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"stage": 3, "precision": "bf16"}, DeepSpeedZeroOptimizer_Stage3),
        ({"stage": 2}, DeepSpeedZeroOptimizer),
        ({"stage": 1, "precision": "fp16"}, DeepSpeedZeroOptimizer),
        ({"precision": "fp16"}, FP16_Optimizer),
        ({"precision": "bf16"}, FP16_Optimizer),
        ({"precision": "bf16", "optimizer": TORCH}, FP16_UnfusedOptimizer),
        ({"stage": 1, "precision": "bf16", "data_types": {"grad_accum_dtype": "fp32"}}, BF16_Optimizer),
        ({"optimizer": TORCH}, torch.optim.AdamW),
        (
            {"optimizer": TORCH | {"type": "Adam", "params": {"torch_adam": True, "adam_w_mode": False}}},
            torch.optim.Adam,
        ),
    ],
)
def test_the_wrapper_is_of_the_class_that_programs_ask_for(settings: dict[str, Any], expected: type) -> None:
    engine = engine_of(**settings)
    assert type(engine.optimizer) is expected
    assert isinstance(engine.basic_optimizer, torch.optim.Optimizer)
    assert engine.optimizer.param_groups is engine.basic_optimizer.param_groups
    assert engine.optimizer is engine.basic_optimizer or engine.optimizer.optimizer is engine.basic_optimizer
    engine.destroy()


@pytest.mark.parametrize(
    ("settings", "attribute"),
    [
        ({"stage": 3, "precision": "bf16"}, "fp32_partitioned_groups_flat"),
        ({"stage": 2, "precision": "bf16"}, "single_partition_of_fp32_groups"),
        ({"precision": "fp16"}, "fp32_groups_flat"),
    ],
)
def test_the_wrapper_has_the_masters(settings: dict[str, Any], attribute: str) -> None:
    engine = engine_of(**settings)
    train(engine, 2)
    (flat,) = getattr(engine.optimizer, attribute)
    assert flat.dtype == torch.float32
    assert torch.equal(flat, torch.cat([value.flatten() for value in values(engine).values()]))
    engine.destroy()


def test_without_zero_and_in_fp32_the_programs_optimizer_is_the_engines() -> None:
    net = model()
    client = torch.optim.AdamW(net.parameters(), **LEARNING)
    engine, optimizer, *_ = deepspeed.initialize(model=net, optimizer=client, config=without("zero_optimization"))
    assert optimizer is client is engine.optimizer
    assert train(engine, 4) == pytest.approx(plain_losses(4), rel=1e-5)
    engine.destroy()


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
@pytest.mark.parametrize("form", ["object", "function"])
def test_the_programs_optimizer_comes_before_the_configurations(stage: int, form: str) -> None:
    net = model()

    def make(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, **LEARNING)

    given = make(net.parameters()) if form == "object" else make
    block = {"type": "AdamW", "params": {"lr": 99.0}}
    engine = deepspeed.initialize(
        model=net,
        optimizer=given,
        model_parameters=None if form == "object" else net.parameters(),
        config=config(stage=stage, optimizer=block),
    )[0]
    assert train(engine, 4) == pytest.approx(plain_losses(4), rel=1e-5)
    engine.destroy()


def test_groups_keep_their_values() -> None:
    net = model()
    groups = [
        {"params": [net.first.weight, net.second.weight], "weight_decay": 0.5},
        {"params": [net.first.bias, net.second.bias, net.scale], "lr": 0.0},
        {"params": []},
    ]
    engine = deepspeed.initialize(model=net, model_parameters=groups, config=config(stage=2))[0]
    before = {name: tensor.detach().clone() for name, tensor in net.named_parameters()}
    train(engine, 2)
    assert torch.equal(net.first.bias, before["first.bias"]) and torch.equal(net.scale, before["scale"])
    assert not torch.equal(net.first.weight, before["first.weight"])
    assert [group["weight_decay"] for group in engine.optimizer.param_groups] == [0.5, 0.1, 0.1]
    engine.destroy()


@pytest.mark.parametrize("stage", [0, 3])
def test_another_optimizer_of_torchs_is_run_by_torch(stage: int) -> None:
    block = {"type": "SGD", "params": {"lr": 0.1, "momentum": 0.9}}
    engine = engine_of(stage=stage, optimizer=block, gradient_clipping=0)
    plain = model()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    expected = []
    for batch in batches(5):
        loss = loss_of(plain, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        expected.append(loss.item())
    assert train(engine, 5) == pytest.approx(expected, rel=1e-5)
    engine.destroy()


def test_zero_wants_an_optimizer_that_it_knows() -> None:
    net = model()
    client = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(AssertionError, match="zero_allow_untested_optimizer"):
        deepspeed.initialize(model=net, optimizer=client, config=config(stage=2))
    engine = deepspeed.initialize(
        model=net, optimizer=client, config=config(stage=2, zero_allow_untested_optimizer=True)
    )[0]
    engine.destroy()


def test_offload_wants_the_host_optimizer_unless_told_otherwise(tmp_path: Path) -> None:
    net = model()
    client = torch.optim.AdamW(net.parameters(), **LEARNING)
    block = offloaded(2, "cpu", tmp_path)
    with pytest.raises(ZeRORuntimeException, match="zero_force_ds_cpu_optimizer"):
        deepspeed.initialize(model=net, optimizer=client, config=config(zero_optimization=block))
    engine = deepspeed.initialize(
        model=net, optimizer=client, config=config(zero_optimization=block, zero_force_ds_cpu_optimizer=False)
    )[0]
    assert train(engine, 3) == pytest.approx(plain_losses(3), rel=1e-5)
    engine.destroy()


@pytest.mark.parametrize("device", ["none", "nvme"])
@pytest.mark.parametrize("stage", [0, 3])
def test_without_an_optimizer_it_runs_forward(stage: int, device: str, tmp_path: Path) -> None:
    if stage == 0 and device == "nvme":
        pytest.skip("parameters live in the store in stage 3 only")
    net = model()
    x = batches(1)[0][0]
    expected = net(x)
    given = without("optimizer", zero_optimization=offloaded(stage, device, tmp_path))
    engine, optimizer, *_ = deepspeed.initialize(model=net, config=given)
    engine.eval()
    with torch.no_grad():
        assert torch.equal(engine(x), expected) and torch.equal(engine(x), expected)
    assert optimizer is None and engine.optimizer is None
    with pytest.raises(orlop.OutOfOrderError, match="no optimizer"):
        engine.step()
    engine.destroy()


@pytest.mark.parametrize("stage", [1, 2])
def test_stages_that_shard_gradients_need_an_optimizer(stage: int) -> None:
    with pytest.raises(AssertionError, match="requires an optimizer"):
        deepspeed.initialize(model=model(), config=without("optimizer", stage=stage))


# ---- The scheduler ----


def test_a_scheduler_as_an_object_and_as_a_function_gives_the_same_rates() -> None:
    def schedule(optimizer: Any) -> Any:
        return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)

    rates = []
    for form in ("object", "function"):
        net = model()
        client = torch.optim.AdamW(net.parameters(), **LEARNING)
        given = schedule(client) if form == "object" else schedule
        engine, _, _, found = deepspeed.initialize(
            model=net, optimizer=client, lr_scheduler=given, config=config(stage=2)
        )
        assert isinstance(found, torch.optim.lr_scheduler.LambdaLR) and engine.lr_scheduler is found
        assert form == "function" or found is given
        rates.append([])
        for _ in range(3):
            train(engine, 1)
            rates[-1].append(engine.get_lr()[0])
        engine.destroy()
    assert rates[0] == rates[1] == pytest.approx([1e-2 * 0.9, 1e-2 * 0.81, 1e-2 * 0.729])


def test_a_scheduler_object_needs_its_optimizer() -> None:
    net = model()
    scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.AdamW(net.parameters()), 1)
    with pytest.raises(AssertionError, match="scheduler"):
        deepspeed.initialize(model=net, lr_scheduler=scheduler, config=config())


def test_the_configurations_scheduler_is_stepped_with_updates_that_were_applied() -> None:
    block = {"type": "WarmupLR", "params": {"warmup_min_lr": 0, "warmup_max_lr": 0.01, "warmup_num_steps": 4}}
    block["params"]["warmup_type"] = "linear"
    engine, _, _, scheduler = deepspeed.initialize(
        model=model(), config=config(precision="fp16", stage=2, accumulation=2, scheduler=block)
    )
    assert type(scheduler) is deepspeed.runtime.lr_schedules.WarmupLR
    rates = []
    for factor in (1, float("inf"), 1):
        for batch in batches(2):
            engine.backward(loss_of(engine, batch) * factor)
            engine.step()
        rates.append(scheduler.get_last_lr()[0])
    assert rates[0] == rates[1] < rates[2] == engine.get_lr()[0]
    engine.destroy()


# ---- The data ----


def test_training_data_becomes_a_loader() -> None:
    data = [(torch.full((2,), float(index)), index) for index in range(10)]
    net = model()
    engine, _, loader, _ = deepspeed.initialize(model=net, training_data=data, config=config())
    assert loader is engine.training_dataloader and len(loader) == 3
    loader.num_local_io_workers = 0
    seen = [index for _, indices in loader for index in indices.tolist()]
    assert sorted(seen) == list(range(10)) and seen != sorted(seen)
    with pytest.raises(StopIteration):
        next(loader)
    iter(loader)
    assert len(next(loader)[1]) == 4
    engine.destroy()
    dropped = deepspeed.initialize(model=net, training_data=data, config=config(dataloader_drop_last=True))
    assert [len(indices) for _, indices in dropped[2]] == [4, 4]
    dropped[0].destroy()


def test_deepspeed_io_may_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        deepspeed.runtime.engine.DeepSpeedEngine,
        "deepspeed_io",
        lambda _engine, data, **_: asked.append(data) or "mine",
    )
    engine, _, loader, _ = deepspeed.initialize(model=model(), training_data=[1, 2], config=config())
    assert loader == "mine" and asked == [[1, 2]]
    engine.destroy()


def test_a_repeating_loader_begins_again() -> None:
    loader = RepeatingLoader([1, 2])
    assert [next(loader) for _ in range(5)] == [1, 2, 1, 2, 1]
    assert iter(loader) is loader


# ---- The model ----


def test_a_second_engine_takes_the_model_over() -> None:
    net = model()
    first = engine_of(net)
    train(first, 3)
    trained = net.first.weight.detach().clone()
    second = engine_of(net, stage=3)
    assert not first.is_open and torch.equal(net.first.weight, trained)
    train(second, 1)
    assert second.global_steps == 1
    second.destroy()


def test_the_model_is_converted_in_place_and_stays_the_callers() -> None:
    net = model()
    engine = engine_of(net, precision="bf16", stage=3)
    assert engine.module is net and net.first.weight.dtype == torch.bfloat16
    train(engine, 2)
    engine.destroy()
    full = {name: value.float() for name, value in net.state_dict().items()}
    net.float().load_state_dict(full, strict=False)
    assert isinstance(net, nn.Module) and net.first.weight.dtype == torch.float32
