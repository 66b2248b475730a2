"""Against torch.optim.AdamW, live."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import orlop
import pytest
import torch
from conftest import LEARNING, TwoLayers, batches, config, loss_of, tiny_llama, values
from torch import Tensor, nn

STEPS = 20
HYPER: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-5, "weight_decay": 0.1}


def relative_l2(a: dict[str, Tensor], b: dict[str, Tensor], start: dict[str, Tensor]) -> float:
    """How far two updates from `start` are apart, relative to the second."""
    apart = sum(float((a[name].double() - b[name].double()).square().sum()) for name in start)
    size = sum(float((b[name].double() - start[name].double()).square().sum()) for name in start)
    return (apart / size) ** 0.5


def train_torch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    losses_of: Callable[[nn.Module, int], list[Tensor]],
    clip: float = 0.0,
    scheduler: Any = None,
) -> list[float]:
    """Plain torch. `losses_of(model, step)` gives the micro-batches' losses."""
    seen = []
    for step in range(STEPS):
        for loss in losses_of(model, step):
            loss.backward()
            seen.append(loss.item())
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        if scheduler is not None:
            scheduler.step()
    return seen


def train_ours(engine: orlop.Engine, losses_of: Callable[[nn.Module, int], list[Tensor]]) -> list[float]:
    seen = []
    for step in range(STEPS):
        for loss in losses_of(engine, step):
            seen.append(engine.backward(loss).item())
            engine.step()
    return seen


def two_layers_loss(model: Any, step: int) -> list[Tensor]:
    return [loss_of(model, batches(STEPS)[step])]


def llama_loss(model: Any, step: int) -> list[Tensor]:
    tokens = torch.randint(0, 256, (2, 24), generator=torch.Generator().manual_seed(step % 2))
    return [model(input_ids=tokens, labels=tokens).loss]


@pytest.mark.parametrize("make", [TwoLayers, tiny_llama])
def test_twenty_steps_are_those_of_torch(make: Callable[[], nn.Module]) -> None:
    loss = two_layers_loss if make is TwoLayers else llama_loss
    ours, theirs = make(), make()
    theirs.load_state_dict(ours.state_dict())
    start = values(ours)
    with orlop.initialize(model=ours, config=config())[0] as engine:
        our_losses = train_ours(engine, loss)
    their_losses = train_torch(theirs, torch.optim.AdamW(theirs.parameters(), **HYPER), loss)
    assert our_losses == pytest.approx(their_losses, rel=1e-5)
    assert relative_l2(values(ours), values(theirs), start) <= 1e-4
    assert our_losses[-1] < our_losses[0]


class Prescribed(nn.Module):
    """One parameter whose gradient is what it is told to be."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(start.clone())

    def forward(self, gradient: Tensor) -> Tensor:
        return (self.weight * gradient.to(self.weight.dtype)).sum()


def test_the_error_against_float64_is_no_worse_than_that_of_torch_in_fp32() -> None:
    start = torch.randn(4099) * torch.logspace(-3, 1, 4099)
    gradients = [torch.randn(4099) * torch.logspace(1, -4, 4099) for _ in range(STEPS)]

    def loss(model: nn.Module, step: int) -> list[Tensor]:
        return [model(gradients[step])]

    ours, single, double = Prescribed(start), Prescribed(start), Prescribed(start.double())
    with orlop.initialize(model=ours, config=config())[0] as engine:
        train_ours(engine, loss)
    for model in (single, double):
        train_torch(model, torch.optim.AdamW(model.parameters(), foreach=False, **HYPER), loss)
    begin = values(Prescribed(start))
    our_error = relative_l2(values(ours), values(double), begin)
    assert our_error <= relative_l2(values(single), values(double), begin)
    assert our_error <= 1e-5


def test_adam_with_l2_is_that_of_torch() -> None:
    ours = TwoLayers()
    theirs, start = copy.deepcopy(ours), values(ours)
    client = torch.optim.Adam(ours.parameters(), **HYPER)
    with orlop.initialize(model=ours, optimizer=client, config=config())[0] as engine:
        train_ours(engine, two_layers_loss)
    train_torch(theirs, torch.optim.Adam(theirs.parameters(), **HYPER), two_layers_loss)
    assert relative_l2(values(ours), values(theirs), start) <= 1e-4


def test_accumulated_micro_batches_are_their_mean() -> None:
    ours = TwoLayers()
    theirs, start = copy.deepcopy(ours), values(ours)
    data = batches(STEPS * 3)

    def micro_batches(model: nn.Module, step: int) -> list[Tensor]:
        return [loss_of(model, batch) for batch in data[step * 3 : step * 3 + 3]]

    with orlop.initialize(model=ours, config=config(gradient_accumulation_steps=3))[0] as engine:
        train_ours(engine, micro_batches)
        assert (engine.global_steps, engine.micro_steps) == (STEPS, 3 * STEPS)
    optimizer = torch.optim.AdamW(theirs.parameters(), **HYPER)
    train_torch(theirs, optimizer, lambda model, step: [loss / 3 for loss in micro_batches(model, step)])
    assert relative_l2(values(ours), values(theirs), start) <= 1e-4


def test_clipping_is_that_of_clip_grad_norm() -> None:
    ours = TwoLayers()
    theirs, start = copy.deepcopy(ours), values(ours)
    with orlop.initialize(model=ours, config=config(gradient_clipping=0.1))[0] as engine:
        train_ours(engine, two_layers_loss)
        assert engine.last_report is not None and 0 < engine.last_report.clip_factor < 1
    train_torch(theirs, torch.optim.AdamW(theirs.parameters(), **HYPER), two_layers_loss, clip=0.1)
    assert relative_l2(values(ours), values(theirs), start) <= 1e-4


def test_the_norm_is_that_of_all_gradients_before_clipping() -> None:
    model = TwoLayers()
    plain = copy.deepcopy(model)
    loss_of(plain, batches(1)[0]).backward()
    with orlop.initialize(model=model, config=config(gradient_clipping=0.1))[0] as engine:
        assert engine.get_global_grad_norm() is None
        engine.backward(loss_of(engine, batches(1)[0]))
        engine.step()
        expected = nn.utils.get_total_norm([p.grad for p in plain.parameters() if p.grad is not None])
        assert engine.get_global_grad_norm() == pytest.approx(expected.item(), rel=1e-6)


def decay_split(model: nn.Module) -> list[dict[str, Any]]:
    """As people write it: no decay for biases and norms."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": 0.3}, {"params": others, "weight_decay": 0.0, "lr": 3e-2}]


@pytest.mark.parametrize("how", ["model_parameters", "optimizer", "function"])
def test_parameter_groups_keep_their_own_values(how: str) -> None:
    ours = TwoLayers()
    theirs, start = copy.deepcopy(ours), values(ours)
    given: dict[str, Any] = {
        "model_parameters": {"model_parameters": decay_split(ours)},
        "optimizer": {"optimizer": torch.optim.AdamW(decay_split(ours), **HYPER)},
        "function": {
            "model_parameters": decay_split(ours),
            "optimizer": lambda groups: torch.optim.AdamW(groups, **HYPER),
        },
    }[how]
    engine, optimizer, _, _ = orlop.initialize(model=ours, config=config(), **given)
    with engine:
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
        assert engine.get_lr() == [1e-2, 3e-2]
        train_ours(engine, two_layers_loss)
    train_torch(theirs, torch.optim.AdamW(decay_split(theirs), **HYPER), two_layers_loss)
    assert relative_l2(values(ours), values(theirs), start) <= 1e-4


@pytest.mark.parametrize("how", ["object", "function"])
@pytest.mark.parametrize("name", ["LambdaLR", "OneCycleLR", "CosineAnnealingLR"])
def test_schedulers_of_torch_drive_the_engine(how: str, name: str) -> None:
    make = {
        "LambdaLR": lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step),
        "OneCycleLR": lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-2, total_steps=STEPS + 1),
        "CosineAnnealingLR": lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS),
    }[name]
    ours = TwoLayers()
    theirs, start = copy.deepcopy(ours), values(ours)
    if how == "object":
        client = torch.optim.AdamW(ours.parameters(), **HYPER)
        engine, _, _, scheduler = orlop.initialize(
            model=ours, optimizer=client, lr_scheduler=make(client), config=config()
        )
    else:
        engine, _, _, scheduler = orlop.initialize(model=ours, lr_scheduler=make, config=config())
    with engine:
        train_ours(engine, two_layers_loss)
        their_optimizer = torch.optim.AdamW(theirs.parameters(), **HYPER)
        their_scheduler = make(their_optimizer)
        train_torch(theirs, their_optimizer, two_layers_loss, scheduler=their_scheduler)
        assert scheduler.get_last_lr() == pytest.approx(their_scheduler.get_last_lr())
        assert engine.get_lr() == pytest.approx(their_scheduler.get_last_lr())
    assert relative_l2(values(ours), values(theirs), start) <= 1e-4


def test_a_tied_parameter_is_one_parameter_with_the_sum_of_its_gradients() -> None:
    model = tiny_llama()
    tied = sum(p.numel() for p in model.parameters())
    with orlop.initialize(model=model, config=config())[0] as engine:
        assert engine.stats()["params"] == tied
        assert model.lm_head.weight is model.model.embed_tokens.weight
        train_ours(engine, llama_loss)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_frozen_parameters_stay_as_they_are_and_the_others_train() -> None:
    ours = TwoLayers()
    ours.first.requires_grad_(False)
    theirs, start = copy.deepcopy(ours), values(ours)
    with orlop.initialize(model=ours, config=config())[0] as engine:
        assert engine.stats()["params"] == sum(p.numel() for p in ours.parameters() if p.requires_grad)
        train_ours(engine, two_layers_loss)
    trainable = [p for p in theirs.parameters() if p.requires_grad]
    train_torch(theirs, torch.optim.AdamW(trainable, **HYPER), two_layers_loss)
    assert torch.equal(ours.first.weight, start["first.weight"])
    assert relative_l2(values(ours), values(theirs), start) <= 1e-4


def test_bf16_follows_an_fp32_run_more_closely_than_bf16_alone_would() -> None:
    """Small updates are kept in the master, which plain bf16 would round away."""
    ours = TwoLayers()
    exact = copy.deepcopy(ours).bfloat16().float()
    alone = copy.deepcopy(ours).bfloat16()
    slow = {**HYPER, "lr": 1e-4}
    changes = {"bf16": {"enabled": True}, "optimizer": {"type": "AdamW", "params": LEARNING["params"] | {"lr": 1e-4}}}
    with orlop.initialize(model=ours, config=config(**changes))[0] as engine:
        start = {name: engine.read_plane(name, "master") for name, _ in ours.named_parameters()}
        assert torch.equal(start["first.weight"], exact.first.weight)

        def loss(model: Any, step: int) -> list[Tensor]:
            inputs, targets = batches(STEPS)[step]
            return [nn.functional.mse_loss(model(inputs.to(next(model.parameters()).dtype)).float(), targets)]

        train_ours(engine, loss)
        masters = {name: engine.read_plane(name, "master") for name, _ in ours.named_parameters()}
    train_torch(exact, torch.optim.AdamW(exact.parameters(), **slow), loss)
    train_torch(alone, torch.optim.AdamW(alone.parameters(), **slow), loss)
    assert relative_l2(masters, values(exact), start) < 0.1 < relative_l2(values(alone), values(exact), start)
    assert all(p.dtype == torch.bfloat16 for p in ours.parameters())
