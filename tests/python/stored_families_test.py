"""Families of models, ways of checkpointing activations and sizes of units: parameters in the store, the same bits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orlop
import pytest
import torch
from conftest import config
from families import FAMILIES, Inputs, albert, language
from orlop import _parameters
from torch import Tensor, nn
from zero_init_test import in_memory, on_nvme

MODES = ["none", "reentrant", "non-reentrant"]
UNITS = ["block", "module"]


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is fetched at once."""
    if request.param == "module":
        monkeypatch.setattr(_parameters, "_unit_path", lambda name, _: name.rpartition(".")[0])
    return str(request.param)


Trained = tuple[list[float], dict[str, Tensor], int]


def trained(engine: orlop.Engine, inputs: Callable[[int], Inputs], steps: int = 2) -> Trained:
    """Losses, the gradients of every parameter and step, and the digest at the end."""
    losses, gradients = [], {}
    trainable = [parameter.name for parameter in engine._registered if not parameter.is_frozen]
    for step in range(steps):
        torch.manual_seed(step)
        loss = engine(**inputs(step)).loss
        losses.append(engine.backward(loss).item())
        gradients.update({f"{name} {step}": read_gradient(engine, name) for name in trainable})
        engine.step()
    return losses, gradients, engine.digest()


def read_gradient(engine: orlop.Engine, name: str) -> Tensor:
    try:
        return engine.read_plane(name, "grad")
    except orlop.OutOfOrderError:  # it has none
        return torch.empty(0)


def check(
    make: Callable[[], nn.Module], inputs: Callable[[int], Inputs], store: Path, most_live: int = 0, **changes: Any
) -> None:
    torch.manual_seed(5)
    model = make().train()
    twin = copy.deepcopy(model)
    with orlop.initialize(model=twin, config=config(**changes))[0] as engine:
        losses, gradients, digest = trained(engine, inputs)
    assert any(gradient.any() for gradient in gradients.values())
    settings: dict[str, Any] = on_nvme(store, orlop={"unit_elements": 1}, **changes)
    settings["zero_optimization"]["stage3_max_live_parameters"] = most_live
    with orlop.initialize(model=model, config=settings)[0] as engine:
        assert len(engine._units._units) > 3
        found_losses, found, found_digest = trained(engine, inputs)
        assert most_live or in_memory(model) == []
    assert found_losses == losses
    different = [name for name, gradient in gradients.items() if not torch.equal(found[name], gradient)]
    assert different == []
    assert found_digest == digest


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FAMILIES)
def test_losses_and_all_gradients_are_those_of_training_in_memory(name: str, mode: str, unit: str, store: Path) -> None:
    make, inputs = FAMILIES[name]

    def with_checkpoints() -> nn.Module:
        model: Any = make()
        if mode != "none":
            model.gradient_checkpointing_enable({"use_reentrant": mode == "reentrant"})
        assert model.is_gradient_checkpointing == (mode != "none")
        return model

    check(with_checkpoints, inputs, store)


@pytest.mark.parametrize("name", [name for name, (_, inputs) in FAMILIES.items() if inputs is language])
def test_in_bf16_too(name: str, store: Path) -> None:
    check(FAMILIES[name][0], language, store, bf16={"enabled": True}, most_live=40_000)


def test_a_layer_that_is_used_many_times_gives_the_same_gradients(unit: str, store: Path) -> None:
    check(albert, language, store)
