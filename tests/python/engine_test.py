"""The engine's manners: counters, states, bad calls, the end."""

from __future__ import annotations

import copy
import io
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import orlop
import pytest
import torch
from conftest import TwoLayers, batches, config, loss_of, offload, same, train, values
from torch import nn
from torch.utils.data import TensorDataset


def initialize(model: nn.Module | None = None, **changes: Any) -> orlop.Engine:
    return orlop.initialize(model=model or TwoLayers(), config=config(**changes))[0]


# ---- Counting ----


def test_counters_and_boundaries_follow_the_micro_batches() -> None:
    with initialize(train_micro_batch_size_per_gpu=8, gradient_accumulation_steps=3) as engine:
        assert (engine.train_batch_size(), engine.train_micro_batch_size_per_gpu()) == (24, 8)
        assert engine.gradient_accumulation_steps() == 3
        boundaries, applied = [], []
        for batch in batches(6):
            engine.backward(loss_of(engine, batch))
            boundaries.append(engine.is_gradient_accumulation_boundary())
            engine.step()
            applied.append(engine.was_step_applied())
        assert boundaries == applied == [False, False, True] * 2
        assert (engine.micro_steps, engine.global_steps, engine.skipped_steps) == (6, 2, 0)


def test_several_backwards_may_share_one_step() -> None:
    """As accelerate calls it: step only when an update is due."""
    one, other = TwoLayers(), TwoLayers()
    other.load_state_dict(one.state_dict())
    with (
        initialize(one, gradient_accumulation_steps=2) as every,
        initialize(other, gradient_accumulation_steps=2) as rare,
    ):
        for batch in batches(4):
            every.backward(loss_of(every, batch))
            every.step()
            rare.backward(loss_of(rare, batch))
            if rare.is_gradient_accumulation_boundary():
                rare.step()
        assert every.digest() == rare.digest() and rare.micro_steps == 4


def test_backward_returns_the_loss_divided_by_the_accumulation_steps() -> None:
    with initialize(gradient_accumulation_steps=4) as engine:
        loss = loss_of(engine, batches(1)[0])
        assert engine.backward(loss).item() == pytest.approx(loss.item() / 4)
        loss = loss_of(engine, batches(1)[0])
        assert engine.backward(loss, scale_wrt_gas=False) is loss


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("scales", [False, True])
def test_loss_backward_does_the_same_as_the_engines(accumulation: int, scales: bool) -> None:
    one, other = TwoLayers(), TwoLayers()
    other.load_state_dict(one.state_dict())
    settings = {"gradient_accumulation_steps": accumulation}
    with initialize(one, **settings) as ours, initialize(other, **settings) as plain:
        train(ours, 3)
        for batch in batches(3 * accumulation):
            loss = loss_of(plain, batch)
            (plain.scale(loss) if scales else loss).backward()
            plain.step()
        assert ours.digest() == plain.digest()


def test_the_program_may_say_where_updates_come() -> None:
    with initialize(gradient_accumulation_steps=3) as engine:
        seen = []
        for batch, is_last in zip(batches(6), (False, False, False, True, True, False), strict=True):
            engine.set_gradient_accumulation_boundary(is_last)
            engine.backward(loss_of(engine, batch))
            engine.step()
            seen.append((engine.is_gradient_accumulation_boundary(), engine.micro_steps, engine.global_steps))
        assert seen == [(False, 1, 0), (False, 2, 0), (False, 3, 0), (True, 4, 1), (True, 5, 2), (False, 6, 2)]
        engine.set_gradient_accumulation_boundary(None)
        assert not engine.is_gradient_accumulation_boundary()
        for batch in batches(2):
            engine.backward(loss_of(engine, batch))
            engine.step()
        assert engine.global_steps == 3


def test_unmanaged_accumulation_updates_whenever_it_is_asked_to() -> None:
    with initialize(managed_gradient_accumulation=False) as engine:
        for count in (1, 3):
            for batch in batches(count):
                engine.backward(loss_of(engine, batch))
            engine.step()
        assert (engine.micro_steps, engine.global_steps) == (4, 2)
        with pytest.raises(orlop.OutOfOrderError, match="every engine.step"):
            engine.set_gradient_accumulation_boundary(True)


def test_zero_grad_forgets_what_has_accumulated() -> None:
    one, other = TwoLayers(), TwoLayers()
    other.load_state_dict(one.state_dict())
    with (
        initialize(one, gradient_accumulation_steps=2) as engine,
        initialize(other, gradient_accumulation_steps=2) as clean,
    ):
        engine.backward(loss_of(engine, batches(3)[2]))
        engine.zero_grad()
        assert not engine.is_gradient_accumulation_boundary()
        train(engine, 2)
        train(clean, 2)
        assert engine.digest() == clean.digest()


def test_no_gradient_stays_with_torch() -> None:
    with initialize() as engine:
        engine.backward(loss_of(engine, batches(1)[0]))
        assert all(parameter.grad is None for parameter in engine.parameters())
        assert engine.read_plane("first.weight", "grad").any()


# ---- The wrapped module ----


def test_the_engine_is_a_module_and_answers_for_the_wrapped_one() -> None:
    model = TwoLayers()
    with initialize(model) as engine:
        assert isinstance(engine, nn.Module) and engine.module is model
        assert engine.first is model.first and engine.device == torch.device("cpu")
        engine.eval()
        assert not model.training
        engine.train()
        assert model.training
        assert [name for name, _ in engine.named_parameters()] == [f"module.{n}" for n, _ in model.named_parameters()]
        with pytest.raises(AttributeError, match="no_such_thing"):
            engine.no_such_thing  # noqa: B018


def test_parameters_are_views_of_engine_memory_with_the_values_they_had() -> None:
    model = TwoLayers()
    before, addresses = values(model), [p.data_ptr() for p in model.parameters()]
    with initialize(model):
        assert same(values(model), before)
        assert all(p.data_ptr() % 64 == 0 for p in model.parameters())
        assert not set(addresses) & {p.data_ptr() for p in model.parameters()}


def test_non_contiguous_parameters_keep_their_values() -> None:
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    before = values(model)
    with initialize(model) as engine:
        assert same(values(model), before)
        engine.backward(engine(torch.randn(1, 3, 5, 5)).sum())
        engine.step()


def test_module_state_dict_is_full_copies_and_loads_back() -> None:
    with initialize() as engine:
        train(engine, 2)
        state = engine.module_state_dict()
        assert same(state, values(engine.module))
        train(engine, 2)
        assert not same(state, values(engine.module))
        engine.load_module_state_dict(state)
        assert same(state, values(engine.module))
        assert all(torch.equal(engine.read_plane(name, "master"), tensor) for name, tensor in state.items())


def test_a_loaded_bf16_state_sets_the_master() -> None:
    with initialize(bf16={"enabled": True}, train_micro_batch_size_per_gpu=1) as engine:
        engine.backward(engine(torch.randn(2, 13, dtype=torch.bfloat16)).float().square().sum())
        engine.step()
        state = {name: torch.full_like(tensor, 1.5) for name, tensor in engine.module_state_dict().items()}
        engine.load_module_state_dict(state)
        assert (engine.read_plane("second.weight", "master") == 1.5).all()


def test_module_state_dict_can_be_saved_without_the_engines_buffers() -> None:
    with initialize() as engine:
        file = io.BytesIO()
        torch.save(engine.module_state_dict(), file)
        assert len(file.getvalue()) < 4 * sum(p.numel() for p in engine.parameters()) + 8192


def test_planes_are_written_and_read() -> None:
    with initialize() as engine:
        moment = torch.rand(37, 13)
        engine.write_plane("first.weight", "exp_avg", moment)
        assert torch.equal(engine.read_plane(engine.module.first.weight, "exp_avg"), moment)
        engine.write_plane("first.weight", "master", moment)
        assert torch.equal(engine.module.first.weight, moment)
        with pytest.raises(orlop.InvalidArgumentError, match=r"shape \(2,\), but the parameter's is \(37, 13\)"):
            engine.write_plane("first.weight", "exp_avg", torch.zeros(2))
        with pytest.raises(orlop.InvalidArgumentError, match="on third.weight: the engine has none like it"):
            engine.read_plane("third.weight", "exp_avg")
        with pytest.raises(orlop.InvalidArgumentError, match="'momentum': must be one of param, master"):
            engine.read_plane("first.weight", "momentum")


def test_a_copy_of_the_model_trains_on_its_own() -> None:
    with initialize() as engine:
        twin = copy.deepcopy(engine.module)
        pickled = pickle.loads(pickle.dumps(engine.module))
        digest = engine.digest()
        for model in (twin, pickled):
            loss_of(model, batches(1)[0]).backward()
            assert model.first.weight.grad is not None
        assert engine.digest() == digest
        train(engine, 1)


def test_training_data_comes_back_as_a_loader_of_micro_batches() -> None:
    inputs, targets = batches(1, size=10)[0]
    settings = config(train_micro_batch_size_per_gpu=4, dataloader_drop_last=True)
    engine, _, loader, _ = orlop.initialize(
        model=TwoLayers(), training_data=TensorDataset(inputs, targets), config=settings
    )
    with engine:
        assert loader is engine.training_dataloader
        assert [len(x) for x, _ in loader] == [4, 4]
    with pytest.raises(orlop.ConfigError, match="train_micro_batch_size_per_gpu"):
        orlop.initialize(model=TwoLayers(), training_data=TensorDataset(inputs, targets), config=config())


# ---- What is not finite ----


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_changes_nothing(
    bad: float, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(3)
    schedule = lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)  # noqa: E731
    settings = config(zero_optimization=offload("nvme", store))
    engine, _, _, scheduler = orlop.initialize(model=TwoLayers(), lr_scheduler=schedule, config=settings)
    with engine:
        train(engine, 2)
        digest, parameters, rate = engine.digest(), values(engine.module), scheduler.get_last_lr()
        with caplog.at_level(logging.WARNING, "orlop"):
            engine.backward(engine.module.second.bias.sum() * bad)
            engine.step()
        assert engine.digest() == digest and same(values(engine.module), parameters)
        assert (engine.global_steps, engine.skipped_steps, engine.was_step_applied()) == (3, 1, False)
        assert scheduler.get_last_lr() == rate
        assert engine.last_report is not None and engine.last_report.skipped
        said = [record.getMessage() for record in caplog.records]
        assert len([line for line in said if "second.bias" in line]) == 1
        train(engine, 1)
        assert engine.was_step_applied()


def test_a_skipped_step_leaves_no_trace_in_later_ones() -> None:
    digests = []
    for disturbed in (False, True):
        torch.manual_seed(3)
        with initialize() as engine:
            train(engine, 1)
            if disturbed:
                engine.backward(loss_of(engine, batches(1)[0]) * float("nan"))
                engine.step()
            train(engine, 2)
            digests.append(engine.digest())
    assert digests[0] == digests[1]


# ---- Bad calls ----


def test_calls_out_of_order_are_refused() -> None:
    with initialize(gradient_accumulation_steps=2) as engine:
        with pytest.raises(orlop.OutOfOrderError, match="call engine.backward"):
            engine.step()
        with pytest.raises(orlop.OutOfOrderError, match="call engine.step"):
            engine.optimizer.step()
        for batch in batches(2):
            engine.backward(loss_of(engine, batch))
        with pytest.raises(orlop.OutOfOrderError, match="micro-batches have ended"):
            engine.backward(loss_of(engine, batches(1)[0]))


def test_a_backward_that_raises_forgets_its_update_and_training_goes_on() -> None:
    class Raise(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("in the middle")

    one, other = TwoLayers(), TwoLayers()
    other.load_state_dict(one.state_dict())
    with initialize(one) as engine, initialize(other) as clean:
        hidden = Raise.apply(engine.module.first(batches(1)[0][0]))
        with pytest.raises(RuntimeError, match="in the middle"):
            engine.backward(engine.module.second(hidden).sum())
        train(engine, 2)
        train(clean, 2)
        assert engine.digest() == clean.digest()


def test_a_loss_must_be_a_tensor() -> None:
    with (
        initialize() as engine,
        pytest.raises(orlop.InvalidArgumentError, match="on a float: the loss must be a tensor"),
    ):
        engine.backward(1.0)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph")
def test_second_derivatives_are_refused() -> None:
    with initialize() as engine, pytest.raises(orlop.UnsupportedError, match="create_graph=True"):
        loss_of(engine, batches(1)[0]).backward(create_graph=True)


def test_sparse_gradients_are_refused_by_name() -> None:
    model = nn.Embedding(10, 3, sparse=True)
    with initialize(model) as engine, pytest.raises(orlop.UnsupportedError, match="on weight: .* sparse=False"):
        engine.backward(engine(torch.tensor([1, 2])).sum())


def test_a_parameter_made_trainable_later_is_refused_by_name() -> None:
    model = TwoLayers()
    model.first.requires_grad_(False)
    with initialize(model) as engine:
        train(engine, 1)
        model.first.weight.requires_grad_(True)
        with pytest.raises(orlop.UnsupportedError, match="step: on first.weight: it was frozen"):
            train(engine, 1)


def test_a_model_moved_away_from_the_engines_memory_is_refused() -> None:
    model = TwoLayers()
    with initialize(model) as engine:
        engine.backward(loss_of(engine, batches(1)[0]))
        model.first.weight.data = model.first.weight.data.clone()
        with pytest.raises(orlop.OutOfOrderError, match="step: on first.weight: its memory was replaced"):
            engine.step()


@pytest.mark.parametrize(
    ("model", "error", "sentence"),
    [
        (None, orlop.ConfigError, "model is a NoneType"),
        (nn.ReLU(), orlop.InvalidArgumentError, "no parameter to train"),
        (nn.Linear(2, 2).double(), orlop.UnsupportedError, r"on weight \(float64\)"),
        (nn.Linear(2, 2).half(), orlop.UnsupportedError, r"on weight \(float16\)"),
        (nn.Linear(2, 2).to("meta"), orlop.UnsupportedError, "parameters on meta"),
    ],
)
def test_models_that_cannot_be_trained_are_refused(model: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        orlop.initialize(model=model, config=config())


def test_parameters_that_only_share_memory_are_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight.data = model[0].weight.data
    for changes in ({}, {"bf16": {"enabled": True}}):
        with pytest.raises(orlop.UnsupportedError, match="on 0.weight and 1.weight: two parameters that share memory"):
            initialize(model, **changes)


def test_a_model_has_one_engine_at_a_time() -> None:
    model = TwoLayers()
    with initialize(model) as engine:
        with pytest.raises(orlop.OutOfOrderError, match="on first.weight: an engine has it"):
            initialize(model)
        train(engine, 1)
    with initialize(model) as again:
        train(again, 1)


# ---- The end ----


def test_after_close_the_model_is_an_ordinary_one_with_its_final_values() -> None:
    model = TwoLayers()
    engine = initialize(model)
    train(engine, 2)
    final, alias = values(model), model.first.weight.detach()[3:5]
    engine.close()
    engine.close()
    assert same(values(model), final) and torch.equal(alias, final["first.weight"][3:5])
    loss_of(model, batches(1)[0]).backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert not same(values(model), final)
    for call in (engine.step, engine.stats, engine.digest, lambda: engine.read_plane("first.weight", "param")):
        with pytest.raises(orlop.OutOfOrderError, match="closed"):
            call()
    assert not engine.is_open


def test_an_engine_that_is_dropped_closes_itself(store: Path) -> None:
    model = TwoLayers()
    engine = initialize(model, zero_optimization=offload("nvme", store))
    train(engine, 1)
    final = values(model)
    del engine
    assert [path for path in store.rglob("*") if path.is_file()] == []
    assert same(values(model), final)


def test_a_failed_initialization_gives_the_model_back(store: Path) -> None:
    model = TwoLayers()
    before = values(model)
    stray = torch.optim.lr_scheduler.ConstantLR(torch.optim.AdamW(TwoLayers().parameters()))
    with pytest.raises(orlop.ConfigError, match="made for another optimizer"):
        orlop.initialize(model=model, lr_scheduler=stray, config=config(zero_optimization=offload("nvme", store)))
    assert same(values(model), before)
    loss_of(model, batches(1)[0]).backward()
    assert model.first.weight.grad is not None


def test_a_forked_child_is_told_so() -> None:
    with initialize() as engine:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                engine.stats()
            except orlop.ForkedError as error:
                os.write(write, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.close(write)
        sentence = os.read(read, 4096).decode()
        assert f"it belongs to process {os.getpid()}, whose fork this is" in sentence
        train(engine, 1)


# ---- Seeing ----


def test_stats_and_description_say_what_was_decided(store: Path) -> None:
    with initialize(zero_optimization=offload("nvme", store)) as engine:
        train(engine, 2)
        stats, described = engine.stats(), engine.describe()
        assert stats["steps"] == 2 and stats["params"] == sum(p.numel() for p in engine.parameters())
        assert stats["nvme_read_bytes"] > 0 and stats["nvme_write_bytes"] > 0
        assert described["memory"]["nvme_bytes"] == stats["nvme_bytes"]
        assert engine.zero_optimization_stage() == 3
        assert engine.last_report is not None and engine.last_report.step == 2


def test_a_trace_can_be_written(tmp_path: Path) -> None:
    with initialize(orlop={"trace": True}) as engine:
        train(engine, 1)
        engine.write_trace(tmp_path / "trace.json")
        assert (tmp_path / "trace.json").stat().st_size > 0


def test_modules_of_one_block_are_one_unit() -> None:
    from orlop._parameters import parameters_of

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(4, 2)
            self.blocks = nn.ModuleList([Block(), Block()])
            self.head = nn.Linear(2, 4)

    model = Model()
    found = parameters_of(model, [{"params": list(model.parameters())}])
    modules = {parameter.name: parameter.module for parameter in found}
    assert [modules[name] for name in ("embed.weight", "blocks.0.a.weight", "blocks.0.b.bias")] == [0, 1, 1]
    assert [modules[name] for name in ("blocks.1.a.weight", "head.weight", "head.bias")] == [2, 3, 3]


def test_log_lines_reach_pythons_logging(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "orlop"):
        initialize(zero_optimization=offload("nvme", store)).close()
    assert any("parameters in" in record.getMessage() for record in caplog.records)
    assert {record.name for record in caplog.records} == {"orlop"}
