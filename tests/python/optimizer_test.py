"""The optimizer argument and the optimizer that comes back."""

from __future__ import annotations

from typing import Any

import orlop
import pytest
import torch
from conftest import TwoLayers, config, train
from torch import nn


def initialize(model: nn.Module, **given: Any) -> tuple[orlop.Engine, orlop.Optimizer]:
    return orlop.initialize(model=model, config=config(), **given)[:2]


def test_without_an_optimizer_the_configuration_says_what_it_is() -> None:
    engine, optimizer = initialize(TwoLayers())
    with engine:
        assert isinstance(optimizer, torch.optim.Optimizer)
        (group,) = optimizer.param_groups
        assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (1e-2, (0.9, 0.99), 1e-5, 0.1)
        assert len(group["params"]) == 6


def test_without_any_word_it_is_adamw_with_its_defaults() -> None:
    engine, optimizer, _, _ = orlop.initialize(model=TwoLayers(), config={})
    with engine:
        assert optimizer.param_groups[0]["lr"] == 1e-3
        assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)


def test_a_given_optimizer_shares_its_groups() -> None:
    model = TwoLayers()
    client = torch.optim.AdamW(model.parameters(), lr=0.5)
    engine, optimizer = initialize(model, optimizer=client)
    with engine:
        assert optimizer.param_groups is client.param_groups
        client.param_groups[0]["lr"] = 0.25
        assert engine.get_lr() == [0.25]


def test_a_rate_of_zero_changes_nothing() -> None:
    model = TwoLayers()
    engine, optimizer = initialize(model)
    with engine:
        before = engine.module_state_dict()
        optimizer.param_groups[0]["lr"] = torch.tensor(0.0)
        train(engine, 1)
        assert all(torch.equal(value, before[name]) for name, value in engine.module_state_dict().items())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: torch.optim.AdamW(p, amsgrad=True), "amsgrad of group 0: not supported"),
        (lambda p: torch.optim.AdamW(p, maximize=True), "maximize of group 0: not supported"),
        (lambda p: torch.optim.LBFGS(p), "on optimizer LBFGS: it calls the model several times"),
        (lambda p: torch.optim.SparseAdam(p), "on optimizer SparseAdam: gradients are dense here"),
    ],
)
def test_what_the_engine_cannot_run_is_refused_by_name(make: Any, sentence: str) -> None:
    model = TwoLayers()
    address = model.first.weight.data_ptr()
    with pytest.raises(orlop.UnsupportedError, match=sentence):
        initialize(model, optimizer=make(model.parameters()))
    assert model.first.weight.data_ptr() == address


def test_an_optimizer_that_has_taken_steps_is_refused() -> None:
    model = TwoLayers()
    client = torch.optim.AdamW(model.parameters())
    model(torch.randn(1, 13)).sum().backward()
    client.step()
    with pytest.raises(orlop.OutOfOrderError, match="taken steps already"):
        initialize(model, optimizer=client)


def test_what_is_no_optimizer_is_refused() -> None:
    with pytest.raises(orlop.ConfigError, match="optimizer is a str"):
        initialize(TwoLayers(), optimizer="AdamW")


def test_parameters_of_another_model_or_given_twice_are_refused() -> None:
    model = TwoLayers()
    with pytest.raises(
        orlop.InvalidArgumentError, match=r"shape \(37, 13\) in group 0: it is no parameter of the model"
    ):
        initialize(model, model_parameters=TwoLayers().parameters())
    twice = [{"params": [model.first.weight]}, {"params": [model.first.bias, model.first.weight]}]
    with pytest.raises(orlop.InvalidArgumentError, match=r"on first.weight: given twice \(groups 0 and 1\)"):
        initialize(model, model_parameters=twice)
    with pytest.raises(orlop.InvalidArgumentError, match="a mixture of parameters and groups"):
        initialize(model, model_parameters=[{"params": [model.first.weight]}, model.first.bias])


def test_a_parameter_in_no_group_is_not_updated_but_keeps_its_gradient() -> None:
    model = TwoLayers()
    before = model.first.weight.detach().clone()
    engine, _ = initialize(model, model_parameters=model.second.parameters())
    with engine:
        train(engine, 2)
        assert torch.equal(model.first.weight, before) and model.first.weight.grad is not None
        engine.zero_grad()
        assert model.first.weight.grad is None


def test_named_parameters_are_taken_as_parameters() -> None:
    model = TwoLayers()
    engine, optimizer = initialize(model, model_parameters=model.named_parameters())
    with engine:
        assert len(optimizer.param_groups[0]["params"]) == 6


def test_values_out_of_range_are_refused() -> None:
    model = TwoLayers()
    engine, optimizer = initialize(model)
    with engine:
        optimizer.param_groups[0]["lr"] = -1.0
        with pytest.raises(orlop.InvalidArgumentError, match="lr = -1"):
            train(engine, 1)


def test_groups_are_fixed_after_initialize() -> None:
    engine, optimizer = initialize(TwoLayers())
    with engine, pytest.raises(orlop.UnsupportedError, match="laid out already"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})


def test_group_values_are_saved_and_loaded() -> None:
    model = TwoLayers()
    engine, optimizer = initialize(model)
    with engine:
        optimizer.param_groups[0]["lr"] = 0.125
        saved = optimizer.state_dict()
        optimizer.param_groups[0]["lr"] = 0.5
        optimizer.load_state_dict(saved)
        assert engine.get_lr() == [0.125] and optimizer.param_groups[0]["params"][0] is model.first.weight
        with pytest.raises(orlop.UnsupportedError, match="moments are not loaded"):
            optimizer.load_state_dict(saved | {"state": {0: {"exp_avg": torch.zeros(1)}}})
        with pytest.raises(orlop.InvalidArgumentError, match="not the groups of this optimizer"):
            optimizer.load_state_dict({"state": {}, "param_groups": []})
