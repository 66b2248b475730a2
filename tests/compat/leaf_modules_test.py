"""Leaf modules: named in every way, and there as a whole while they run."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import deepspeed
import pytest
import torch
from deepspeed.runtime.zero import leaf_module_config
from deepspeed.utils import (
    get_z3_leaf_modules,
    set_z3_leaf_modules,
    set_z3_leaf_modules_by_name,
    set_z3_leaf_modules_by_suffix,
    unset_z3_leaf_modules,
    z3_leaf_module,
)
from torch import Tensor, nn

torch.set_num_threads(1)


class Experts(nn.Module):
    """Of its experts another one runs in each step."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(13, 13) for _ in range(3))
        self.calls = 0
        self.there: list[int] = []

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        self.there.append(sum(next(expert.parameters()).numel() > 0 for expert in self.experts))
        chosen = self.experts[self.calls % 3]
        return chosen(x), x.detach()


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(13, 13)
        self.moe = Experts()
        self.last = nn.Linear(13, 13)

    def forward(self, x: Tensor) -> Tensor:
        x, other = self.moe(self.first(x))
        return self.last(x + other)


def settings(device: str, path: Path, **changes: Any) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": 3, "stage3_param_persistence_threshold": 0}
    if device != "none":
        zero |= {key: {"device": device, "nvme_path": str(path)} for key in ("offload_param", "offload_optimizer")}
    return {
        "train_micro_batch_size_per_gpu": 4,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-2, "eps": 1e-5}},
        "zero_optimization": zero | changes,
        "orlop": {"unit_elements": 1},
    }


def trained(model: nn.Module, chosen: dict[str, Any], needs_grad: bool = True) -> tuple[list[float], int]:
    engine = deepspeed.initialize(model=model, config=chosen)[0]
    generator = torch.Generator().manual_seed(5)
    losses = []
    for _ in range(4):
        loss = engine(torch.randn(4, 13, generator=generator).requires_grad_(needs_grad)).pow(2).mean()
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    digest = engine.digest()
    assert all(parameter.numel() == 0 for parameter in model.parameters()) or chosen["zero_optimization"]["stage"] == 0
    engine.destroy()
    return losses, digest


@pytest.mark.parametrize("needs_grad", [True, False])
@pytest.mark.parametrize("device", ["none", "nvme"])
def test_a_leaf_is_there_as_a_whole_and_training_is_the_same(device: str, needs_grad: bool, tmp_path: Path) -> None:
    torch.manual_seed(7)
    plain = Model()
    models = [copy.deepcopy(plain) for _ in range(2)]
    assert set_z3_leaf_modules(models[1], [Experts]) == [models[1].moe]
    expected = trained(plain, settings(device, tmp_path) | {"zero_optimization": {"stage": 0}}, needs_grad)
    for model in models:
        assert trained(model, settings(device, tmp_path), needs_grad) == expected
    assert set(models[1].moe.there) == {3} and min(models[0].moe.there) == 0


def test_they_are_named_by_class_name_and_suffix() -> None:
    model = Model()
    assert get_z3_leaf_modules(model) == [] and not z3_leaf_module(model.moe)
    assert set_z3_leaf_modules(model, ["Experts"]) == [model.moe]
    assert model.moe._z3_leaf and z3_leaf_module(model.moe) and get_z3_leaf_modules(model) == [model.moe]
    assert unset_z3_leaf_modules(model, [Experts]) == [model.moe] and get_z3_leaf_modules(model) == []
    assert set_z3_leaf_modules(model, [f"{Experts.__module__}.Experts"]) == [model.moe]
    unset_z3_leaf_modules(model, [Experts])
    assert set_z3_leaf_modules_by_name(model, ["moe.experts.1"]) == ([model.moe.experts[1]], [])
    assert set_z3_leaf_modules_by_suffix(model, ["experts.2", "last"]) == ([model.moe.experts[2], model.last], [])
    assert get_z3_leaf_modules(model) == [model.moe.experts[1], model.moe.experts[2], model.last]


def test_what_a_model_does_not_have() -> None:
    model = Model()
    with pytest.raises(ValueError, match=r"no module of a class of \['Conv1d'\]"):
        set_z3_leaf_modules(model, [nn.Conv1d])
    with pytest.raises(ValueError, match=r"no module named \['nothing'\]"):
        set_z3_leaf_modules_by_name(model, ["moe", "nothing"])
    with pytest.raises(ValueError, match=r"ends in \['thing'\]"):
        set_z3_leaf_modules_by_suffix(model, ["thing"])
    assert get_z3_leaf_modules(model) == []
    assert set_z3_leaf_modules(model, [nn.Conv1d], raise_if_not_found=False) == []
    found = set_z3_leaf_modules_by_name(model, ["moe", "nothing"], raise_if_not_found=False)
    assert found == ([model.moe], ["nothing"])
    assert set_z3_leaf_modules_by_suffix(model, ["thing"], raise_if_not_found=False) == ([], ["thing"])


@pytest.mark.parametrize("block", [{"classes": "Experts"}, {"names": ["moe", "gone"]}, {"name_suffixes": ["oe"]}])
def test_the_configuration_names_them(block: dict[str, Any], tmp_path: Path) -> None:
    model = Model()
    trained(model, settings("none", tmp_path, leaf_module=block))
    assert get_z3_leaf_modules(model) == [model.moe] and set(model.moe.there) == {3}


def test_the_defaults_are_lists_of_names() -> None:
    for kind in ("CLASSES", "NAMES", "NAME_SUFFIXES"):
        names = getattr(leaf_module_config, f"DEFAULT_LEAF_MODULE_{kind}")
        assert all(isinstance(name, str) for name in names)
