"""Parameters that live in the store between their uses: the same bits as in memory, and memory only while in use."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orlop
import pytest
import torch
from conftest import TwoLayers, batches, config, failing_passes, tiny_llama, train
from orlop import _native
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def stored(store: Path, threshold: int = 0, live_parameters: int = 0, **changes: Any) -> dict[str, Any]:
    return config(
        zero_optimization={
            "stage": 3,
            "offload_optimizer": {"device": "nvme", "nvme_path": str(store)},
            "offload_param": {"device": "nvme"},
            "stage3_param_persistence_threshold": threshold,
            "stage3_max_live_parameters": live_parameters,
        },
        **{"orlop": {"unit_elements": 1}} | changes,  # as many units as there are modules
    )


def live(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.numel() > 0]


def values(engine: orlop.Engine) -> dict[str, Tensor]:
    return engine.module_state_dict()


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


def run_both(
    make: Callable[[], nn.Module],
    steps: Callable[[orlop.Engine], Any],
    store: Path,
    **changes: Any,
) -> None:
    """Trains twin models, one with its parameters in memory and one with them in the store; all must be equal."""
    torch.manual_seed(5)
    model = make()
    twin = copy.deepcopy(model)
    expected_engine = orlop.initialize(model=twin, config=config(**changes))[0]
    expected = steps(expected_engine)
    engine = orlop.initialize(model=model, config=stored(store, **changes))[0]
    with expected_engine, engine:
        assert live(engine.module) == []
        found = steps(engine)
        assert found == expected
        assert live(engine.module) == []
        assert_same(values(engine), values(expected_engine))
        assert engine.digest() == expected_engine.digest()


def regression(engine: orlop.Engine) -> list[float]:
    return [float(loss) for loss in losses_of(engine, batches(3))]


def losses_of(engine: orlop.Engine, data: Any) -> list[Tensor]:
    losses = []
    for inputs, targets in data:
        dtype = next(engine.module.parameters()).dtype
        loss = nn.functional.mse_loss(engine(inputs.to(dtype)).float(), targets)
        losses.append(engine.backward(loss).detach())
        engine.step()
    return losses


def tokens(count: int) -> Tensor:
    return torch.randint(0, 256, (2, 16), generator=torch.Generator().manual_seed(count))


def language(engine: orlop.Engine) -> list[float]:
    losses = []
    for step in range(3):
        loss = engine(input_ids=tokens(step), labels=tokens(step)).loss
        losses.append(float(engine.backward(loss)))
        engine.step()
    return losses


@pytest.mark.parametrize("precision", [{}, {"bf16": {"enabled": True}}, {"fp16": {"enabled": True}}])
def test_training_gives_the_same_bits(precision: dict[str, Any], store: Path) -> None:
    run_both(TwoLayers, regression, store, **precision)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("mode", ["none", "reentrant", "non-reentrant"])
def test_a_language_model_gives_the_same_bits(tied: bool, mode: str, store: Path) -> None:
    def make() -> nn.Module:
        model = tiny_llama(tie_word_embeddings=tied)
        if mode != "none":
            model.gradient_checkpointing_enable({"use_reentrant": mode == "reentrant"})
            model.enable_input_require_grads()
        return model

    run_both(make, language, store, bf16={"enabled": True})


class Branching(nn.Module):
    """Uses its layers in an order that the step decides, one of them twice, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(13, 13) for _ in range(5))
        self.last = nn.Linear(13, 5)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        order = [0, 1, 1, 2] if self.calls % 2 else [3, 0, 2]
        for index in order:
            x = torch.tanh(self.layers[index](x))
        return self.last(x)


class Frozen(nn.Module):
    """A frozen base with something trained before, inside and after it."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(13, 13)
        self.base = nn.Sequential(nn.Linear(13, 13), nn.LayerNorm(13), nn.Linear(13, 13)).requires_grad_(False)
        self.adapter = nn.Linear(13, 13)
        self.after = nn.Linear(13, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        x = self.base(x) + self.adapter(x)
        return self.after(torch.tanh(x))


class FrozenFirst(Frozen):
    """Nothing before the base wants a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.base(x) + self.adapter(x))


class Attention(nn.Module):
    """Its output projection's parameters are used without its forward being called."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(13, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm = nn.BatchNorm1d(16)
        self.out = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x).unsqueeze(1)
        x, _ = self.attention(x, x, x)
        return self.out(self.norm(x.squeeze(1)))


class Checkpointed(nn.Module):
    """Hooks lie inside what is computed again; checkpoints are nested."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.first = nn.Linear(13, 13)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(13, 13), nn.Tanh(), nn.LayerNorm(13)) for _ in range(3))
        self.scale = nn.Parameter(torch.ones(13))
        self.last = nn.Linear(13, 5)

    def inner(self, x: Tensor) -> Tensor:
        return checkpoint(self.blocks[1], self.blocks[0](x), use_reentrant=self.reentrant)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = checkpoint(self.inner, x, use_reentrant=self.reentrant)
        x = checkpoint(self.blocks[2], x, use_reentrant=self.reentrant)
        return self.last(x * self.scale)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "branching": Branching,
    "frozen": Frozen,
    "frozen first": FrozenFirst,
    "attention": Attention,
    "checkpointed, reentrant": lambda: Checkpointed(True),
    "checkpointed, non-reentrant": lambda: Checkpointed(False),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_gives_the_same_bits(name: str, store: Path) -> None:
    run_both(MODELS[name], regression, store)


def test_several_micro_batches_and_backwards_give_the_same_bits(store: Path) -> None:
    def steps(engine: orlop.Engine) -> list[float]:
        losses = []
        for (first, target), (second, _) in zip(batches(4), batches(4), strict=True):
            one = nn.functional.mse_loss(engine(first), target)
            two = nn.functional.mse_loss(engine(second * 2), target)
            losses.append(float(engine.backward(one + two, retain_graph=True)))
            engine.step()
            engine.backward(nn.functional.mse_loss(engine(second), target))
            engine.step()
        return losses

    run_both(TwoLayers, steps, store, gradient_accumulation_steps=2, train_micro_batch_size_per_gpu=8)


def test_a_backward_that_is_not_the_engines_gives_the_same_bits(store: Path) -> None:
    def steps(engine: orlop.Engine) -> list[float]:
        losses = []
        for inputs, targets in batches(3):
            loss = nn.functional.mse_loss(engine(inputs), targets)
            loss.backward()
            engine.step()
            losses.append(float(loss))
        return losses

    run_both(TwoLayers, steps, store)


def test_evaluation_leaves_nothing_behind(store: Path) -> None:
    model = tiny_llama()
    expected = copy.deepcopy(model)
    with orlop.initialize(model=model, config=stored(store))[0] as engine, torch.no_grad():
        engine.eval()
        assert torch.equal(engine(input_ids=tokens(1)).logits, expected.eval()(input_ids=tokens(1)).logits)
        assert live(model) == []
        given = model.generate(tokens(1), max_new_tokens=4, do_sample=False)
        assert torch.equal(given, expected.generate(tokens(1), max_new_tokens=4, do_sample=False))


def test_training_goes_on_after_a_pass_that_failed(store: Path) -> None:
    def steps(engine: orlop.Engine) -> list[float]:
        for _ in failing_passes(engine, "norm", batches(1)[0]):
            pass
        return regression(engine)

    run_both(TwoLayers, steps, store)


def test_after_close_parameters_are_tensors_with_their_values(store: Path) -> None:
    model = TwoLayers()
    engine = orlop.initialize(model=model, config=stored(store))[0]
    train(engine, 2)
    expected = values(engine)
    engine.close()
    assert_same({name: value.detach() for name, value in model.state_dict().items()}, expected)
    assert torch.isfinite(model(batches(1)[0][0])).all()


def test_state_dicts_and_checkpoints_have_the_values(store: Path, tmp_path: Path) -> None:
    model = TwoLayers()
    with orlop.initialize(model=model, config=stored(store))[0] as engine:
        train(engine, 2)
        engine.save_checkpoint(tmp_path)
        before, digest = values(engine), engine.digest()
        train(engine, 1)
        engine.load_checkpoint(tmp_path)
        assert engine.digest() == digest
        assert_same(values(engine), before)
        zeros = {name: torch.zeros_like(value) for name, value in before.items()}
        engine.load_module_state_dict(zeros)
        assert all(not value.any() for value in values(engine).values())
        assert engine.read_plane("first.weight", "master").shape == (37, 13)
    shutil.rmtree(tmp_path / "global_step2")
    _native.reclaim(str(store), dry_run=False)


def test_a_copy_of_the_model_has_no_hooks(store: Path) -> None:
    model = TwoLayers()
    with orlop.initialize(model=model, config=stored(store))[0]:
        twin = copy.deepcopy(model)
        assert live(twin) == []
        with pytest.raises(RuntimeError):  # its parameters are empty
            twin(batches(1)[0][0])


def test_small_parameters_stay(store: Path) -> None:
    model = TwoLayers()
    with orlop.initialize(model=model, config=stored(store, threshold=100))[0]:
        assert live(model) == ["first.bias", "norm.weight", "norm.bias", "second.bias"]


def test_gathered_parameters_are_there_and_can_be_changed(store: Path) -> None:
    model = TwoLayers()
    expected = copy.deepcopy(model)
    with orlop.initialize(model=model, config=stored(store, bf16={"enabled": True}))[0] as engine:
        with orlop.zero.GatheredParameters(model.first.weight):
            assert torch.equal(model.first.weight, expected.first.weight.bfloat16())
            model.first.weight.data.zero_()
            engine(batches(1)[0][0].bfloat16())
            assert "first.weight" in live(model)
        assert live(model) == []
        assert values(engine)["first.weight"].any()
        with orlop.zero.GatheredParameters(model, modifier_rank=0):
            model.first.weight.data.zero_()
        assert live(model) == [] and not values(engine)["first.weight"].any()
        assert not engine.read_plane("first.weight", "master").any()
        train_bf16(engine)


def train_bf16(engine: orlop.Engine) -> None:
    losses_of(engine, batches(1))


class Borrowing(nn.Module):
    """A module that computes with a parameter of another one."""

    def __init__(self) -> None:
        super().__init__()
        self.lender = nn.Linear(13, 13)
        self.scale = nn.Parameter(torch.ones(13))
        self.last = nn.Linear(13, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(nn.functional.linear(x * self.scale, self.lender.weight))


def test_an_external_parameter_is_registered_with_the_module_that_uses_it(store: Path) -> None:
    def steps(engine: orlop.Engine) -> list[float]:
        orlop.zero.register_external_parameter(engine.module, engine.module.lender.weight)
        return regression(engine)

    run_both(Borrowing, steps, store)


def test_parameters_that_do_not_fit_stay_empty_at_the_end(
    store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = TwoLayers()
    engine = orlop.initialize(model=model, config=stored(store))[0]
    monkeypatch.setattr(type(engine._units), "_room", lambda _: 100)
    engine.close()
    assert live(model) == [] and "do not fit into memory (100 bytes are free)" in caplog.text


def test_an_initialization_that_fails_leaves_the_model_as_it_was(store: Path) -> None:
    model = TwoLayers()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    other = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(TwoLayers().parameters(), lr=1.0), 1)
    with pytest.raises(orlop.ConfigError, match="it was made for another optimizer"):
        orlop.initialize(model=model, config=stored(store), lr_scheduler=other)
    assert_same({name: value.detach() for name, value in model.named_parameters()}, before)
    model(batches(1)[0][0])


def add(model: nn.Module) -> None:
    model.extra = nn.Linear(2, 2)


def remove(model: nn.Module) -> None:
    model.first.bias = None


def replace(model: nn.Module) -> None:
    model.first.weight = nn.Parameter(torch.zeros(37, 13))


def tie(model: nn.Module) -> None:
    model.norm.bias = model.norm.weight


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (add, "on extra.weight: it was added to the model since initialize"),
        (remove, "on first.bias: it was removed from the model since initialize"),
        (replace, "on first.weight: it was replaced in the model since initialize"),
        (tie, "on norm.bias: it was replaced in the model since initialize"),
    ],
)
@pytest.mark.parametrize("where", ["store", "memory"])
def test_a_model_that_was_changed_is_refused(
    change: Callable[[nn.Module], None], said: str, where: str, store: Path
) -> None:
    model = TwoLayers()
    with orlop.initialize(model=model, config=stored(store) if where == "store" else config())[0] as engine:
        train(engine, 1)
        change(model)
        with pytest.raises(orlop.OutOfOrderError, match=said):
            train(engine, 1)


def test_memory_that_was_replaced_is_found_by_the_next_forward(store: Path) -> None:
    model = TwoLayers()
    with orlop.initialize(model=model, config=stored(store))[0] as engine:
        model.first.weight.data = torch.zeros(37, 13)
        with pytest.raises(orlop.OutOfOrderError, match="forward: on first.weight: its memory was replaced"):
            train(engine, 1)
