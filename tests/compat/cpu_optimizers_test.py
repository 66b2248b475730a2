"""Adam, Adagrad and Lion alone on torch's tensors, and given to an engine."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import deepspeed
import orlop
import pytest
import torch
from deepspeed.ops import __compatible_ops__, op_builder
from deepspeed.ops.adagrad import DeepSpeedCPUAdagrad
from deepspeed.ops.adam import DeepSpeedCPUAdam, FusedAdam
from deepspeed.ops.lion import DeepSpeedCPULion, FusedLion
from orlop import optim
from torch import Tensor, nn

Make = Callable[[Any], torch.optim.Optimizer]

PAIRS: dict[str, tuple[Make, Make]] = {  # ours, and torch's of the same arithmetic
    "AdamW": (
        lambda p: DeepSpeedCPUAdam(p, lr=1e-2, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    ),
    "Adam": (
        lambda p: DeepSpeedCPUAdam(p, lr=1e-2, weight_decay=0.1, betas=(0.8, 0.9), eps=1e-5, adamw_mode=False),
        lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.1, betas=(0.8, 0.9), eps=1e-5),
    ),
    "FusedAdam": (
        lambda p: FusedAdam(p, lr=1e-2, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    ),
    "Adagrad": (
        lambda p: DeepSpeedCPUAdagrad(p, lr=1e-2, weight_decay=0.1),
        lambda p: torch.optim.Adagrad(p, lr=1e-2, weight_decay=0.1),
    ),
    "Adagrad with decay": (
        lambda p: optim.Adagrad(p, lr=1e-2, lr_decay=0.1, initial_accumulator_value=0.5),
        lambda p: torch.optim.Adagrad(p, lr=1e-2, lr_decay=0.1, initial_accumulator_value=0.5),
    ),
}
OURS: dict[str, Make] = {
    "Adam": lambda p: DeepSpeedCPUAdam(p, lr=1e-2),
    "Adagrad": lambda p: DeepSpeedCPUAdagrad(p, lr=1e-2),
    "Lion": lambda p: DeepSpeedCPULion(p, lr=1e-2, weight_decay=0.1),
}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def parameters(dtype: torch.dtype, *shapes: tuple[int, ...]) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]


def give_gradients(given: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in given:
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)


def apart(a: Tensor, b: Tensor) -> float:
    """The relative difference of two tensors' norms."""
    return float((a.float() - b.float()).norm() / b.float().norm())


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("size", [1, 22, 1023, 1025, 40_000])
def test_ten_updates_are_those_of_torch(name: str, size: int) -> None:
    ours, theirs = parameters(torch.float32, (size,), (3, 5)), parameters(torch.float32, (size,), (3, 5))
    optimizer, reference = PAIRS[name][0](ours), PAIRS[name][1](theirs)
    for step in range(10):
        for given, made in ((ours, optimizer), (theirs, reference)):
            give_gradients(given, step)
            made.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-6, atol=2e-6)


def test_lion_steps_in_the_direction_of_the_sign() -> None:
    (parameter,) = parameters(torch.float32, (1000,))
    expected, moment = parameter.detach().clone(), torch.zeros(1000)
    optimizer = DeepSpeedCPULion([parameter], lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    for step in range(10):
        give_gradients([parameter], step)
        assert parameter.grad is not None
        direction = (0.9 * moment + 0.1 * parameter.grad).sign()
        expected -= 1e-2 * (direction + 0.1 * expected)
        moment = 0.99 * moment + 0.01 * parameter.grad
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), expected, rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(optimizer.state[parameter]["exp_avg"], moment, rtol=2e-6, atol=2e-6)
    fused = parameters(torch.float32, (1000,))
    other = FusedLion(fused, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    for step in range(10):
        give_gradients(fused, step)
        other.step()
    assert torch.equal(fused[0], parameter)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_16_bit_parameters_are_updates_in_fp32_rounded(name: str, dtype: torch.dtype) -> None:
    given = parameters(dtype, (5000,))
    optimizer = OURS[name](given)
    for step in range(3):
        wide = [nn.Parameter(given[0].detach().float())]
        reference = OURS[name](wide)
        if step:
            state = copy.deepcopy(optimizer.state[given[0]])
            reference.state[wide[0]] = state
        give_gradients(given, step)
        assert given[0].grad is not None
        wide[0].grad = given[0].grad.float()
        optimizer.step()
        reference.step()
        assert torch.equal(given[0], wide[0].to(dtype))
        for moment in ("exp_avg", "exp_avg_sq"):
            if moment in optimizer.state[given[0]]:
                assert optimizer.state[given[0]][moment].dtype is torch.float32
                assert torch.equal(optimizer.state[given[0]][moment], reference.state[wide[0]][moment])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_may_be_of_another_type_than_their_parameter(dtype: torch.dtype) -> None:
    class Holder(nn.Parameter):
        """Lets a gradient of any type be assigned."""

        grad: Any = None

    values = parameters(torch.float32, (100,))[0].detach()
    gradient = torch.randn(100).to(dtype)
    mixed, plain = Holder(values.clone()), nn.Parameter(values.clone())
    mixed.grad, plain.grad = gradient, gradient.float()
    for parameter in (mixed, plain):
        DeepSpeedCPUAdam([parameter], lr=1e-2).step()
    assert torch.equal(mixed.detach(), plain.detach())


def test_moments_of_16_bits_stay_near_those_of_32() -> None:
    wide, narrow = parameters(torch.bfloat16, (4096,)), parameters(torch.bfloat16, (4096,))
    first = DeepSpeedCPUAdam(wide, lr=1e-3)
    second = DeepSpeedCPUAdam(narrow, lr=1e-3, fp32_optimizer_states=False)
    for step in range(10):
        for given, optimizer in ((wide, first), (narrow, second)):
            give_gradients(given, step)
            optimizer.step()
    for moment in ("exp_avg", "exp_avg_sq"):
        exact, rounded = first.state[wide[0]][moment], second.state[narrow[0]][moment]
        assert exact.dtype is torch.float32 and rounded.dtype is torch.bfloat16
        assert 0 < apart(rounded, exact) < 0.05
    assert apart(narrow[0].detach(), wide[0].detach()) < 0.01


def test_a_bias_is_corrected_unless_it_is_not_to_be() -> None:
    for corrects, expected in ((True, 0.1), (False, 0.1 * 0.1 / math.sqrt(0.001))):
        parameter = nn.Parameter(torch.zeros(1))
        parameter.grad = torch.ones(1)
        DeepSpeedCPUAdam([parameter], lr=0.1, bias_correction=corrects, eps=0).step()
        assert parameter.item() == pytest.approx(-expected, rel=1e-5)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_state_that_is_saved_and_loaded_goes_on_with_the_same_bits(name: str, dtype: torch.dtype) -> None:
    first, second = parameters(dtype, (500,), (7, 3)), parameters(dtype, (500,), (7, 3))
    saved, loaded = OURS[name](first), OURS[name](second)
    for step in range(4):
        give_gradients(first, step)
        saved.step()
    with torch.no_grad():
        for a, b in zip(first, second, strict=True):
            b.copy_(a)
    loaded.load_state_dict(copy.deepcopy(saved.state_dict()))
    for given, optimizer in ((first, saved), (second, loaded)):
        give_gradients(given, 9)
        optimizer.step()
        assert optimizer.state[given[0]]["step"] == 5
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
        assert all(torch.equal(saved.state[a][m], loaded.state[b][m]) for m in saved.moments)  # type: ignore[attr-defined]


def test_a_state_of_torchs_adam_can_be_loaded() -> None:
    theirs, ours = parameters(torch.float32, (50,)), parameters(torch.float32, (50,))
    reference, optimizer = torch.optim.AdamW(theirs, lr=1e-2), DeepSpeedCPUAdam(ours, lr=1e-2)
    for step in range(3):
        give_gradients(theirs, step)
        reference.step()
    optimizer.load_state_dict(reference.state_dict())
    with torch.no_grad():
        ours[0].copy_(theirs[0])
    for given, made in ((theirs, reference), (ours, optimizer)):
        give_gradients(given, 5)
        made.step()
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_a_copy_is_the_same_optimizer(copied: Callable[[Any], Any]) -> None:
    first = DeepSpeedCPUAdam(parameters(torch.bfloat16, (50,)), lr=0.1, adamw_mode=True, fp32_optimizer_states=False)
    give_gradients(first.param_groups[0]["params"], 1)
    first.step()
    second = copied(first)
    for optimizer in (first, second):
        give_gradients(optimizer.param_groups[0]["params"], 2)
        optimizer.step()
    a, b = first.param_groups[0]["params"][0], second.param_groups[0]["params"][0]
    assert torch.equal(a, b) and second.decoupled and second.adam_w_mode
    assert second.state[b]["exp_avg"].dtype is torch.bfloat16 and second.state[b]["step"] == 2


def test_a_closure_is_called_and_its_loss_returned() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = DeepSpeedCPUAdam([parameter], lr=0.1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = parameter.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3 and parameter[0].item() == pytest.approx(0.9)


def test_parameters_without_gradients_or_elements_are_left_out() -> None:
    still, empty, moving = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(0)), nn.Parameter(torch.ones(3))
    optimizer = DeepSpeedCPUAdam([still, empty, moving], lr=0.1)
    empty.grad, moving.grad = torch.ones(0), torch.ones(3)
    optimizer.step()
    assert torch.equal(still, torch.ones(3)) and still not in optimizer.state and moving[0] != 1


def test_tensors_that_are_not_contiguous_are_updated() -> None:
    whole = torch.randn(6, 8)
    plain, strided = nn.Parameter(whole.t().contiguous()), nn.Parameter(whole.clone().t())
    for parameter in (plain, strided):
        parameter.grad = torch.arange(48.0).view(6, 8).t()
        DeepSpeedCPUAdam([parameter], lr=0.1).step()
    assert not strided.is_contiguous() and torch.equal(plain, strided)


def test_only_rows_with_gradients_of_a_sparse_embedding_change() -> None:
    ours, theirs = nn.Embedding(10, 4, sparse=True), nn.Embedding(10, 4, sparse=True)
    theirs.load_state_dict(ours.state_dict())
    before = ours.weight.detach().clone()
    optimizer = DeepSpeedCPUAdagrad(ours.parameters(), lr=0.1)
    reference = torch.optim.Adagrad(theirs.parameters(), lr=0.1)
    for rows in ([1, 3, 3], [3, 7]):
        for embedding, made in ((ours, optimizer), (theirs, reference)):
            made.zero_grad()
            embedding(torch.tensor(rows)).square().sum().backward()
            made.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-6, atol=1e-6)
    same = (ours.weight == before).all(dim=1)
    assert same.tolist() == [row not in (1, 3, 7) for row in range(10)]
    with pytest.raises(NotImplementedError, match="sparse gradient of shape .10, 4.: gradients are dense here"):
        DeepSpeedCPUAdam(ours.parameters()).step()


def test_what_cannot_be_updated_is_refused_before_anything_changes() -> None:
    good, bad = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, dtype=torch.float64))
    for parameter in (good, bad):
        parameter.grad = torch.ones_like(parameter)
    with pytest.raises(NotImplementedError, match="a parameter of float64"):
        DeepSpeedCPUAdam([{"params": [good]}, {"params": [bad]}], lr=0.1).step()
    assert torch.equal(good, torch.ones(2))
    far = nn.Parameter(torch.ones(2, device="meta"))
    far.grad = torch.ones(2, device="meta")
    for make in (DeepSpeedCPUAdam, DeepSpeedCPUAdagrad, DeepSpeedCPULion):
        with pytest.raises(AssertionError, match=f"{make.__name__} param is on meta and must be 'cpu'"):
            make([far]).step()
    with pytest.raises(NotImplementedError, match="a parameter on meta"):
        FusedAdam([far]).step()
    for make in (DeepSpeedCPUAdam, FusedAdam, DeepSpeedCPUAdagrad):
        with pytest.raises(RuntimeError, match=f"{make.__name__} does not support the AMSGrad variant"):
            make([good], amsgrad=True)
    with pytest.raises(NotImplementedError, match="maximize of group 0"):
        DeepSpeedCPUAdam([{"params": [good], "maximize": True}]).step()
    with pytest.raises(ValueError, match=r"lr \(-1\): must be at least 0"):
        DeepSpeedCPUAdam([good], lr=-1)


# ---- Given to an engine ----


def losses(optimizer: Make | None, config: dict[str, Any], initialize: Any = orlop.initialize) -> list[float]:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))
    given = {} if optimizer is None else {"optimizer": optimizer(model.parameters())}
    engine, *_ = initialize(model=model, config={"train_batch_size": 4, "gradient_clipping": 0} | config, **given)
    found = []
    for step in range(6):
        x = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
        loss = engine(x).square().mean()
        engine.backward(loss)
        engine.step()
        found.append(loss.item())
    engine.close()
    return found


ADAM = {"lr": 1e-2, "betas": [0.8, 0.95], "eps": 1e-6, "weight_decay": 0.1}
BLOCKS: dict[str, tuple[Make, dict[str, Any]]] = {
    "AdamW": (
        lambda p: DeepSpeedCPUAdam(p, lr=1e-2, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
        {"type": "AdamW", "params": ADAM},
    ),
    "Adam": (
        lambda p: DeepSpeedCPUAdam(
            p, lr=1e-2, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1, adamw_mode=False, bias_correction=False
        ),
        {"type": "Adam", "params": ADAM | {"adam_w_mode": False, "bias_correction": False}},
    ),
    "FusedAdam": (
        lambda p: FusedAdam(p, lr=1e-2, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1, adam_w_mode=False),
        {"type": "Adam", "params": ADAM | {"adam_w_mode": False}},
    ),
    "Adagrad": (
        lambda p: optim.Adagrad(p, lr=1e-2, lr_decay=0.1, initial_accumulator_value=0.5, weight_decay=0.1),
        {
            "type": "Adagrad",
            "params": {"lr": 1e-2, "lr_decay": 0.1, "initial_accumulator_value": 0.5, "weight_decay": 0.1},
        },
    ),
    "Lion": (
        lambda p: DeepSpeedCPULion(p, lr=1e-3, weight_decay=0.1),
        {"type": "Lion", "params": {"lr": 1e-3, "betas": [0.9, 0.999], "weight_decay": 0.1}},
    ),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_an_engine_runs_it_as_the_configurations_block(name: str) -> None:
    make, block = BLOCKS[name]
    assert losses(make, {}) == losses(None, {"optimizer": block})


@pytest.mark.parametrize("name", BLOCKS)
def test_an_engine_and_the_optimizer_alone_agree(name: str) -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3))
    optimizer = BLOCKS[name][0](model.parameters())
    found = []
    for step in range(6):
        loss = model(torch.randn(4, 6, generator=torch.Generator().manual_seed(step))).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    assert found == losses(BLOCKS[name][0], {})


def test_groups_with_torchs_own_keys_reach_the_engine() -> None:
    """As accelerate makes it of a torch AdamW."""

    def make(given: Any) -> torch.optim.Optimizer:
        first, *others = given
        groups = [{"params": [first], "weight_decay": 0.0}, {"params": others, "weight_decay": 0.1}]
        torchs = torch.optim.AdamW(groups, lr=1e-2, eps=1e-6)
        return DeepSpeedCPUAdam(torchs.param_groups, lr=1e-2, weight_decay=0.3, adamw_mode=True)

    def plain(given: Any) -> torch.optim.Optimizer:
        first, *others = given
        groups = [{"params": [first], "weight_decay": 0.0}, {"params": others, "weight_decay": 0.1}]
        return torch.optim.AdamW(groups, lr=1e-2, eps=1e-6)

    offload = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}
    assert losses(make, offload) == losses(plain, {}) == losses(make, offload, deepspeed.initialize)


def test_a_class_with_a_step_of_its_own_is_run_by_torch() -> None:
    class Halved(DeepSpeedCPUAdam):
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad /= 2
            return super().step(closure)

    model = nn.Linear(3, 2)
    engine, optimizer, *_ = orlop.initialize(model=model, optimizer=Halved(model.parameters(), lr=1e-2), config={})
    assert optimizer.kind.name == "EXTERNAL"
    engine.close()
    assert optim.block_of(DeepSpeedCPUAdam(nn.Linear(3, 2).parameters())) == {"type": "AdamW", "params": {}}


def test_16_bit_moments_are_noted_by_an_engine() -> None:
    def make(given: Any) -> torch.optim.Optimizer:
        return DeepSpeedCPUAdam(given, lr=1e-2, fp32_optimizer_states=False)

    assert losses(make, {}) == losses(OURS["Adam"], {})
    notes = orlop.Config(
        {"bf16": {"enabled": True, "bf16_master_weights_and_grads": True, "bf16_optimizer_states": True}}
    )
    assert len(notes.notes) == 2 and "moments are fp32 in an engine" in " ".join(notes.notes)


def test_16_bit_moments_of_the_configuration_want_an_optimizer_that_has_them() -> None:
    settings = {
        "bf16": {"enabled": True, "bf16_master_weights_and_grads": True, "bf16_optimizer_states": True},
        "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}},
    }
    for is_wide in (True, False):
        model = nn.Linear(3, 2)
        optimizer = DeepSpeedCPUAdam(model.parameters(), fp32_optimizer_states=is_wide)
        if is_wide:
            with pytest.raises(AssertionError, match=r"DeepSpeedCPUAdam\(fp32_optimizer_states=False\)"):
                deepspeed.initialize(model=model, optimizer=optimizer, config={"train_batch_size": 4} | settings)
        else:
            deepspeed.initialize(model=model, optimizer=optimizer, config={"train_batch_size": 4} | settings)[0].close()


# ---- Builders ----


@pytest.mark.parametrize("name", ["CPUAdam", "CPUAdagrad", "CPULion", "FusedAdam", "FusedLion"])
def test_what_a_builder_says_works_loads(name: str) -> None:
    builder = getattr(op_builder, f"{name}Builder")()
    assert __compatible_ops__.get(builder.NAME) is builder.is_compatible() is True
    assert any(
        isinstance(value, type) and issubclass(value, optim.HostOptimizer) for value in vars(builder.load()).values()
    )


def test_what_is_not_here_says_so() -> None:
    assert __compatible_ops__["fused_lamb"] is False
    with pytest.raises(NotImplementedError, match="FusedLamb is not provided by Orlop: give torch.optim.AdamW"):
        deepspeed.ops.lamb.FusedLamb([])
    with pytest.raises(NotImplementedError, match="FusedLambBuilder.load is not provided by Orlop: give an optimizer"):
        op_builder.FusedLambBuilder().load()


def test_files_can_be_read_beside_computing_where_a_queue_works() -> None:
    assert __compatible_ops__[op_builder.AsyncIOBuilder.NAME] is bool(orlop.build_info()["queues"])
