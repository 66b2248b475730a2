"""What embedding in torch demands, rule by rule: each name begins with the letter of the rule that it is the test of.

They are the lettered rules of the notes on PyTorch's runtime that the hooks are built on: what autograd saves, what may
be given up when, what hooks see. Others have their tests elsewhere: c in stored_memory_test.py; o in
stored_families_test.py and, with hooks inside what is computed again, in stored_params_test.py; w there; v in
engine_test.py; x in zero_init_test.py; y in weights_test.py. k, m and n are of what is not built: a net under hooks
that has never caught anything, a fetch saved, and what hooks cost.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orlop
import pytest
import torch
from conftest import TwoLayers, batches, config, loss_of, train
from stored_params_test import live, losses_of, regression, run_both, stored
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Zoo(nn.Module):
    """A module of every kind that saves its parameters in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(13, 16)
        self.norms = nn.ModuleList([nn.LayerNorm(16), nn.RMSNorm(16), nn.GroupNorm(4, 16), nn.BatchNorm1d(16)])
        self.conv = nn.Conv1d(4, 4, 3, padding=1)
        self.prelu = nn.PReLU(16)
        self.bilinear = nn.Bilinear(16, 16, 16)
        self.embedding = nn.Embedding(7, 16, padding_idx=0)
        self.bag = nn.EmbeddingBag(7, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=True)
        self.gru = nn.GRU(16, 16, batch_first=True)
        self.gain = nn.Parameter(torch.rand(16))
        self.tied = nn.Linear(16, 7, bias=False)
        self.tied.weight = self.embedding.weight
        self.out = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x)
        for norm in self.norms:
            x = x + norm(x)
        x = self.conv(x.view(-1, 4, 4)).reshape(-1, 16)
        x = self.bilinear(self.prelu(x), x) * self.gain
        ids = torch.arange(len(x)) % 7
        x = x + self.embedding(ids) + self.bag(ids.unsqueeze(1))
        x = x + self.attention(x.unsqueeze(1), x.unsqueeze(1), x.unsqueeze(1))[0].squeeze(1)
        x = self.gru(self.layer(x.unsqueeze(1)))[0].squeeze(1)
        return self.out(x) + self.tied(x).mean()


def test_a_gradients_of_every_kind_of_module_are_the_same(store: Path) -> None:
    run_both(Zoo, regression, store)


class Watched(TwoLayers):
    """Calls back between forward and backward, and before the gradient of its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.between: Callable[[], None] = lambda: None

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(torch.tanh(self.first(x)))
        if x.requires_grad:
            x.register_hook(lambda gradient: self.between())
        return self.second(x)


def test_b_fetching_is_no_change_in_the_eyes_of_autograd(store: Path) -> None:
    model = TwoLayers()
    with orlop.initialize(model=model, config=stored(store))[0] as engine:
        versions = [parameter._version for parameter in model.parameters()]
        engine(batches(1)[0][0])
        with orlop.zero.GatheredParameters(model):
            pass
        assert [parameter._version for parameter in model.parameters()] == versions
        train(engine, 1)


def test_d_a_unit_may_come_back_to_another_place(store: Path) -> None:
    """What autograd has saved in the forward pass follows it."""
    places: list[int] = []
    held: list[Tensor] = []

    def steps(engine: orlop.Engine) -> list[float]:
        model: Any = engine.module

        def note() -> None:
            places.append(model.second.weight.data_ptr())

        handle = model.second.register_forward_pre_hook(lambda *_: note())
        model.between = note
        losses = []
        for inputs, targets in batches(3):
            loss = nn.functional.mse_loss(engine(inputs), targets)
            held.extend(torch.full((37 * 5 + 5,), 9.0) for _ in range(64))  # takes the room that was given back
            losses.append(engine.backward(loss).item())
            engine.step()
        handle.remove()
        model.between = lambda: None
        return losses

    run_both(Watched, steps, store)
    assert len(set(places)) > 2


def test_e_what_would_be_written_without_values_is_said(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = TwoLayers()
    with orlop.initialize(model=model, config=stored(store, threshold=100))[0] as engine:
        expected = engine.module_state_dict()
        assert not caplog.text
        found = model.state_dict()
        assert found.keys() == expected.keys() and found["first.weight"].numel() == 0
        assert "state_dict: on first.weight and 1 more" in caplog.text and "engine.module_state_dict()" in caplog.text
        caplog.clear()
        with orlop.zero.GatheredParameters(model):
            assert torch.equal(model.state_dict()["first.weight"], expected["first.weight"])
        assert "state_dict" not in caplog.text
        with pytest.raises(RuntimeError, match="size mismatch"):
            model.load_state_dict(expected)
        assert model.load_state_dict({}, strict=False).missing_keys


def test_f_hooks_of_a_program_can_be_set_while_parameters_are_away(store: Path) -> None:
    model = TwoLayers()
    seen: list[tuple[int, ...]] = []
    with orlop.initialize(model=model, config=stored(store))[0] as engine:
        assert live(model) == []
        model.first.weight.register_hook(lambda gradient: seen.append(tuple(gradient.shape)))
        train(engine, 2)
    assert seen == [(37, 13)] * 2


def test_g_units_first_fetched_in_inference_mode_can_be_trained(store: Path) -> None:
    def steps(engine: orlop.Engine) -> list[float]:
        with torch.inference_mode():
            first = engine(batches(1)[0][0]).sum().item()
        with torch.no_grad(), orlop.zero.GatheredParameters(engine.module):
            second = engine(batches(1)[0][0]).sum().item()
        return [first, second, *regression(engine)]

    run_both(TwoLayers, steps, store)


def test_h_converting_a_model_that_an_engine_has_is_refused(store: Path) -> None:
    model = TwoLayers()
    with orlop.initialize(model=model, config=stored(store))[0] as engine:
        model.bfloat16()
        with pytest.raises(orlop.OutOfOrderError, match="forward: on first.weight: its memory was replaced"):
            engine(batches(1)[0][0])
        model.float()
        train(engine, 1)


def test_i_the_same_bits_under_autocast(store: Path) -> None:
    def steps(engine: orlop.Engine) -> list[float]:
        losses = []
        for inputs, targets in batches(3):
            with torch.autocast("cpu", torch.bfloat16):
                loss = nn.functional.mse_loss(engine(inputs).float(), targets)
            losses.append(engine.backward(loss).item())
            engine.step()
        return losses

    run_both(TwoLayers, steps, store)


@dataclass
class Output:
    value: Tensor
    other: Any = None


class Outputs(nn.Module):
    """Its own parameter, and an output of some form; one of its inputs wants no gradient."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.weight = nn.Parameter(torch.randn(13, 13))

    def forward(self, x: Tensor, mask: Tensor) -> Any:
        y = x @ self.weight * mask
        forms = {
            "tuple": (y, None),
            "dict": {"a": [y], "b": 3},
            "dataclass": Output(y),
            "nested dataclass": Output(mask, [Output(y)]),
        }
        return forms[self.form]


def inside(output: Any) -> Tensor:
    while not isinstance(output, Tensor):
        if isinstance(output, Output):
            output = output.other or output.value
        else:
            output = output["a"] if isinstance(output, dict) else output[0]
    return output


class Forms(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Outputs(form) for _ in range(3))
        self.last = nn.Linear(13, 5)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(13)
        for layer in self.layers:
            x = torch.tanh(inside(layer(x, mask=mask)))
        x = self.last(x)
        return x.mul_(2)  # an output that is changed in place


@pytest.mark.parametrize("form", ["tuple", "dict", "dataclass", "nested dataclass"])
def test_j_outputs_of_every_form_bring_the_units_back(form: str, store: Path) -> None:
    run_both(lambda: Forms(form), regression, store)


def test_l_gradients_that_are_only_asked_for_leave_nothing_behind(store: Path) -> None:
    def steps(engine: orlop.Engine) -> list[float]:
        inputs = batches(1)[0][0].requires_grad_()
        (found,) = torch.autograd.grad(engine(inputs).sum(), inputs)
        engine.backward(nn.functional.mse_loss(engine(inputs.detach()), batches(1)[0][1]))
        engine.step()
        assert "first.weight" not in live(engine.module) or engine._units._units == {}
        return [found.sum().item(), *regression(engine)]

    run_both(TwoLayers, steps, store)


class Frosty(nn.Module):
    """Blocks that are computed again, of which some parameters are frozen."""

    def __init__(self, frozen: str, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.first = nn.Linear(13, 13)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(13), nn.Linear(13, 13), nn.GELU(), nn.Linear(13, 13)) for _ in range(3)
        )
        self.last = nn.Linear(13, 5)
        for number, block in enumerate(self.blocks):
            if frozen == "all" or (frozen == "norms") or (frozen == "every other" and number % 2):
                (block[0] if frozen == "norms" else block).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = x + checkpoint(block, x, use_reentrant=self.reentrant)
        return self.last(x)


@pytest.mark.parametrize("frozen", ["norms", "every other", "all"])
@pytest.mark.parametrize("reentrant", [True, False])
def test_p_frozen_parameters_in_what_is_computed_again(frozen: str, reentrant: bool, store: Path) -> None:
    run_both(lambda: Frosty(frozen, reentrant), regression, store)


class FailsAgain(nn.Module):
    """Fails when it is computed again, as often as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(13, 13)
        self.failures = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.failures and torch._C._current_graph_task_id() != -1:
            self.failures -= 1
            raise RuntimeError("computed again")
        return self.linear(x)


@pytest.mark.parametrize("reentrant", [True, False])
def test_p_training_goes_on_after_computing_again_has_failed(reentrant: bool, store: Path) -> None:
    def make() -> nn.Module:
        model = Frosty("none", reentrant)
        model.blocks[1].append(FailsAgain())
        return model

    def steps(engine: orlop.Engine) -> list[float]:
        model: Any = engine.module
        inputs, targets = batches(1)[0]
        for _ in range(2):
            model.blocks[1][-1].failures = 1
            with pytest.raises(RuntimeError, match="computed again"):
                engine.backward(nn.functional.mse_loss(engine(inputs), targets))
        return regression(engine)

    run_both(make, steps, store)


class PassingThrough(nn.Module):
    """What its first block makes reaches the loss through all others."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(13, 13) for _ in range(5))
        self.last = nn.Linear(13, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = first = self.blocks[0](x)
        for block in self.blocks[1:]:
            x, first = self.pass_on(block, x, first)
        return self.last(x + first)

    def pass_on(self, block: nn.Module, x: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tanh(block(x) + first), first


def test_q_finished_units_are_not_fetched_again_and_kept(store: Path) -> None:
    run_both(PassingThrough, regression, store)
    model = PassingThrough()
    there: list[int] = []
    for block in model.blocks:
        block.weight.register_hook(lambda _: there.append(sum(block.weight.numel() > 0 for block in model.blocks)))
    with orlop.initialize(model=model, config=stored(store))[0] as engine:
        regression(engine)
    assert len(there) == 15 and max(there) <= 2


def test_r_modules_that_share_a_unit_do_not_give_it_up_for_each_other(store: Path) -> None:
    model = TwoLayers()
    there: list[tuple[int, ...]] = []
    model.second.register_forward_pre_hook(lambda *_: there.append(tuple(model.first.weight.shape)))
    model.first.weight.register_hook(lambda _: there.append(tuple(model.second.weight.shape)))
    with orlop.initialize(model=model, config=stored(store, orlop={}))[0] as engine:
        assert len(engine._units._units) == 1
        train(engine, 2)
        assert live(model) == []
    assert there == [(37, 13), (5, 37)] * 2


class Experts(nn.Module):
    """Of its experts the step decides which are called, one of them with nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(13, 5) for _ in range(4))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        chosen = self.experts[self.calls % 3]
        return chosen(x) + self.experts[3](x[:0]).sum()


def test_s_experts_that_are_not_called_and_those_called_with_nothing(store: Path) -> None:
    run_both(Experts, regression, store)


def test_t_compiled_blocks_give_the_bits_of_compiled_blocks(store: Path) -> None:
    def make() -> nn.Module:
        model = Frosty("none", False)
        for block in model.blocks:
            block.forward = torch.compile(block.forward, backend="aot_eager")
        return model

    def compiled(settings: dict[str, Any]) -> tuple[list[float], int]:
        torch.manual_seed(5)
        with orlop.initialize(model=make(), config=settings)[0] as engine:
            return [float(loss) for loss in losses_of(engine, batches(2))], engine.digest()

    assert compiled(stored(store)) == compiled(config())


def test_u_a_child_process_and_a_pickle_have_no_part_in_it(store: Path) -> None:
    model = TwoLayers()
    with orlop.initialize(model=model, config=stored(store))[0] as engine:
        train(engine, 1)
        child = os.fork()
        if child == 0:  # says what is wrong instead of waiting for threads that it does not have
            try:
                model(batches(1)[0][0])
                os._exit(1)
            except orlop.ForkedError:
                os._exit(0)
            except BaseException:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        twin = pickle.loads(pickle.dumps(model))
        assert not twin.first._forward_hooks or all(hook._call is None for hook in twin.first._forward_hooks.values())
        train(engine, 1)


def test_two_forwards_before_their_backwards(store: Path) -> None:
    def steps(engine: orlop.Engine) -> list[float]:
        first, second = batches(2)
        losses = [loss_of(engine, first), loss_of(engine, second)]
        found = [engine.backward(loss).item() for loss in reversed(losses)]
        engine.step()
        return found + regression(engine)

    run_both(TwoLayers, steps, store, gradient_accumulation_steps=2)
