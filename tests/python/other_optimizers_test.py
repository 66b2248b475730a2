"""Optimizers other than Adam: the engine's own, and those that torch runs on what the engine keeps."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orlop
import pytest
import torch
from conftest import TwoLayers, batches, offload, train
from torch import Tensor, nn

MAKERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "RMSprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.5, centered=True),
    "Adadelta": lambda p: torch.optim.Adadelta(p, lr=0.5),
    "Adamax": lambda p: torch.optim.Adamax(p, lr=1e-2),
    "NAdam": lambda p: torch.optim.NAdam(p, lr=1e-2),
    "RAdam": lambda p: torch.optim.RAdam(p, lr=1e-2),
    "Rprop": lambda p: torch.optim.Rprop(p, lr=1e-3),
    "ASGD": lambda p: torch.optim.ASGD(p, lr=1e-2),
    "Adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2),
}


def without_engine(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for inputs, targets in batches(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), targets).backward()
        optimizer.step()


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def assert_equal(found: nn.Module, expected: nn.Module) -> None:
    theirs = values(expected)
    for name, value in values(found).items():
        assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize("name", MAKERS)
def test_torch_runs_what_the_engine_does_not_bit_for_bit(name: str) -> None:
    model = TwoLayers()
    plain = copy.deepcopy(model)
    without_engine(plain, MAKERS[name](plain.parameters()), 5)
    engine, optimizer, _, _ = orlop.initialize(
        model=model, optimizer=MAKERS[name](model.parameters()), config={"gradient_clipping": 0}
    )
    train(engine, 5)
    assert engine.global_steps == 5 and optimizer.param_groups[0]["params"][0] is model.first.weight
    assert_equal(model, plain)
    engine.close()
    assert_equal(model, plain)


def test_torch_clips_by_the_engines_norm_and_leaves_out_what_has_no_gradient() -> None:
    model = TwoLayers()
    unused = nn.Linear(3, 3)
    model.unused = unused
    plain = copy.deepcopy(model)
    client = torch.optim.SGD(plain.parameters(), lr=0.1, weight_decay=0.5)
    for inputs, targets in batches(3):
        client.zero_grad()
        nn.functional.mse_loss(plain(inputs), targets).backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.01)
        client.step()
    engine, _, _, _ = orlop.initialize(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5),
        config={"gradient_clipping": 0.01},
    )
    with engine:
        train(engine, 3)
        for name, value in values(model).items():
            torch.testing.assert_close(value, dict(plain.named_parameters())[name].detach(), rtol=1e-5, atol=1e-7)
        assert torch.equal(model.unused.weight, plain.unused.weight)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_torch_updates_fp32_masters_of_16_bit_parameters(precision: str) -> None:
    model = TwoLayers()
    client = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    block = {"enabled": True} | ({"loss_scale": 64} if precision == "fp16" else {})
    engine, _, _, _ = orlop.initialize(model=model, optimizer=client, config={"gradient_clipping": 0, precision: block})
    with engine:
        masters = {name: engine.read_plane(name, "master") for name, _ in model.named_parameters()}
        momenta: dict[str, Tensor] = {}
        dtype = torch.bfloat16 if precision == "bf16" else torch.float16
        for inputs, targets in batches(4):
            engine.backward(nn.functional.mse_loss(engine(inputs.to(dtype)).float(), targets))
            for name in masters:
                gradient = engine.read_plane(name, "grad")
                momenta[name] = gradient if name not in momenta else momenta[name].mul(0.9).add(gradient)
                masters[name] = masters[name].add(momenta[name], alpha=-1e-4)
            engine.step()
        for name, parameter in model.named_parameters():
            assert parameter.dtype is dtype and parameter.grad is None
            torch.testing.assert_close(engine.read_plane(name, "master"), masters[name], rtol=1e-6, atol=1e-8)
            assert torch.equal(parameter.float(), engine.read_plane(name, "param"))


def test_a_scheduler_drives_what_torch_runs() -> None:
    model = TwoLayers()
    client = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(client, 1, gamma=0.5)
    engine, _, _, _ = orlop.initialize(model=model, optimizer=client, lr_scheduler=scheduler, config={})
    with engine:
        train(engine, 2)
        assert engine.get_lr() == [0.25]


def test_states_of_torch_are_saved_and_training_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def start() -> tuple[nn.Module, orlop.Engine]:
        torch.manual_seed(3)
        model = TwoLayers()
        engine = orlop.initialize(
            model=model, optimizer=MAKERS["NAdam"](model.parameters()), config={"bf16": {"enabled": True}}
        )[0]
        return model, engine

    def steps(engine: orlop.Engine, first: int, count: int) -> None:
        for inputs, targets in batches(first + count)[first:]:
            engine.backward(nn.functional.mse_loss(engine(inputs.bfloat16()).float(), targets))
            engine.step()

    _, engine = start()
    with engine:
        steps(engine, 0, 2)
        engine.save_checkpoint(tmp_path)
        steps(engine, 2, 3)
        expected = engine.digest()
        _, resumed = start()
        with resumed:
            resumed.load_checkpoint(tmp_path)
            steps(resumed, 2, 3)
            assert resumed.digest() == expected


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_torch_runs_updates_parameters_on_nvme(precision: str, store: Path) -> None:
    def masters_after(zero: dict[str, Any]) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        model = TwoLayers()
        zero |= {"stage3_param_persistence_threshold": 0}
        config = {"bf16": {"enabled": precision == "bf16"}, "zero_optimization": zero}
        client = MAKERS["NAdam"](model.parameters())
        with orlop.initialize(model=model, optimizer=client, config=config)[0] as engine:
            for inputs, targets in batches(3):
                inputs = inputs.bfloat16() if precision == "bf16" else inputs
                engine.backward(nn.functional.mse_loss(engine(inputs).float(), targets))
                engine.step()
            return {name: engine.read_plane(name, "master") for name in model.state_dict()}

    here = masters_after({})
    there = masters_after({"stage": 3, "offload_param": {"device": "nvme", "nvme_path": str(store)}})
    for name, values in here.items():
        assert torch.equal(values, there[name]), name


def test_what_torch_runs_cannot_have_states_on_nvme(store: Path) -> None:
    model = TwoLayers()
    with pytest.raises(orlop.UnsupportedError, match=r"on optimizer SGD: torch runs it, and keeps its states in host"):
        orlop.initialize(
            model=model,
            optimizer=MAKERS["SGD"](model.parameters()),
            config={"zero_optimization": offload("nvme", store)},
        )


def test_external_needs_an_optimizer() -> None:
    with pytest.raises(orlop.ConfigError, match="the optimizer that updates the parameters is missing"):
        orlop.initialize(model=TwoLayers(), config={"optimizer": {"type": "External"}})


# ---- The engine's own ----


@pytest.mark.parametrize("initial", [0.0, 0.1])
def test_a_live_adagrad_is_mapped_and_agrees_with_torch(initial: float, store: Path) -> None:
    def make(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adagrad(
            parameters, lr=0.05, lr_decay=0.1, weight_decay=0.01, initial_accumulator_value=initial, eps=1e-7
        )

    model = TwoLayers()
    plain = copy.deepcopy(model)
    without_engine(plain, make(plain.parameters()), 10)
    engine, _, _, _ = orlop.initialize(
        model=model,
        optimizer=make(model.parameters()),
        config={"gradient_clipping": 0, "zero_optimization": offload("nvme", store)},
    )
    with engine:
        train(engine, 10)
        assert engine.optimizer.kind.name == "ADAGRAD"
        for name, value in values(model).items():
            torch.testing.assert_close(value, dict(plain.named_parameters())[name].detach(), rtol=1e-5, atol=1e-6)


def lion_step(parameter: Tensor, moment: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
    """Chen et al. 2023, algorithm 2, in float64."""
    beta1, beta2 = group["betas"]
    direction = (beta1 * moment + (1 - beta1) * gradient).sign()
    parameter -= group["lr"] * (direction + group["weight_decay"] * parameter)
    moment.mul_(beta2).add_(gradient, alpha=1 - beta2)


def test_lion_agrees_with_its_paper(store: Path) -> None:
    model = TwoLayers()
    plain = copy.deepcopy(model).double()
    group = {"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.1}
    moments = [torch.zeros_like(parameter) for parameter in plain.parameters()]
    for inputs, targets in batches(5):
        loss = nn.functional.mse_loss(plain(inputs.double()), targets.double())
        gradients = torch.autograd.grad(loss, list(plain.parameters()))
        with torch.no_grad():
            for parameter, moment, gradient in zip(plain.parameters(), moments, gradients, strict=True):
                lion_step(parameter, moment, gradient, group)
    settings = {
        "optimizer": {"type": "Lion", "params": {"lr": 1e-3, "weight_decay": 0.1}},
        "gradient_clipping": 0,
        "zero_optimization": offload("nvme", store),
    }
    engine, optimizer, _, _ = orlop.initialize(model=model, config=settings)
    with engine:
        assert optimizer.param_groups[0]["betas"] == (0.9, 0.99) and "eps" not in optimizer.param_groups[0]
        train(engine, 5)
        differing = sum(
            int((value.double() - dict(plain.named_parameters())[name].detach()).abs().gt(1e-6).sum())
            for name, value in values(model).items()
        )
        assert differing <= 3  # where the direction is a rounding from zero
        with pytest.raises(orlop.InvalidArgumentError, match="has no EXP_AVG_SQ plane"):
            engine.read_plane("first.weight", "exp_avg_sq")
