"""What of the store stays in memory between its uses: the same bits under every limit, which holds at every moment."""

from __future__ import annotations

import copy
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orlop
import pytest
import torch
from conftest import failing_passes, tiny_llama
from orlop import _native
from stored_params_test import assert_same, language, live, losses_of, stored, values
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

WIDTH = 1050  # a layer is too large to share a unit with the next
UNIT = 1_104_000  # elements, at most


class Deep(nn.Module):
    """Layers of a unit each; subclasses say how they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(13, WIDTH)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(5))
        self.last = nn.Linear(WIDTH, 5)
        self.calls = 0

    def run(self, x: Tensor, index: int) -> Tensor:
        return torch.tanh(self.layers[index](x))

    def order(self) -> list[int]:
        return [0, 1, 2, 3, 4]

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = torch.tanh(self.into(x))
        for index in self.order():
            x = self.run(x, index)
        return self.last(x)


class Branching(Deep):
    """An order that the step decides, a layer used twice, one never."""

    def order(self) -> list[int]:
        return [0, 1, 1, 2] if self.calls % 2 else [3, 0, 2]


class Recomputed(Deep):
    reentrant = False

    def run(self, x: Tensor, index: int) -> Tensor:
        return checkpoint(super().run, x, index, use_reentrant=self.reentrant)


class RecomputedReentrant(Recomputed):
    reentrant = True


class PartlyFrozen(Deep):
    def __init__(self) -> None:
        super().__init__()
        self.layers[0].requires_grad_(False)
        self.layers[3].requires_grad_(False)


class Nested(Deep):
    """Parameters of its own, in use while its children are."""

    def __init__(self) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.randn(WIDTH, WIDTH) / WIDTH)

    def run(self, x: Tensor, index: int) -> Tensor:
        return super().run(x @ self.mixing, index)


def wide_llama(mode: str) -> nn.Module:
    model = tiny_llama(hidden_size=512, intermediate_size=640, num_hidden_layers=3)
    if mode != "none":
        model.gradient_checkpointing_enable({"use_reentrant": mode == "reentrant"})
        model.enable_input_require_grads()
    return model


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [(torch.randn(4, 13, generator=generator), torch.randn(4, 5, generator=generator)) for _ in range(count)]


def regression(engine: orlop.Engine) -> list[float]:
    return [float(loss) for loss in losses_of(engine, batches(4))]


def watch(engine: orlop.Engine) -> list[tuple[int, bool]]:
    """Elements in memory as each use begins, and whether all of them are in use."""
    units, native, seen = engine._units._units, engine._native, []
    unshard = native.unshard

    def watched(number: int, *rest: Any) -> None:
        there = [unit for unit in units.values() if unit._flat.untyped_storage().nbytes()]
        elements = sum(unit._flat.numel() for unit in there)
        seen.append((elements, all(unit.is_used or unit.number == number for unit in there)))
        unshard(number, *rest)

    native.unshard = watched
    return seen


def run_limited(
    make: Callable[[], nn.Module],
    steps: Callable[[orlop.Engine], Any],
    store: Path,
    limit: int,
    **zero: Any,
) -> orlop.Stats:
    """Trains twins, one in memory and one within a limit; all must be equal and the limit kept to."""
    torch.manual_seed(5)
    model = make()
    twin = copy.deepcopy(model)
    reference = stored(store)
    del reference["zero_optimization"]
    with orlop.initialize(model=twin, config=reference)[0] as expected_engine:
        expected = steps(expected_engine)
        expected_values, expected_digest = values(expected_engine), expected_engine.digest()
    settings = stored(store, live_parameters=limit)
    settings["zero_optimization"] |= zero
    with orlop.initialize(model=model, config=settings)[0] as engine:
        seen = watch(engine)
        assert steps(engine) == expected
        assert all(elements <= limit or all_used for elements, all_used in seen)
        assert sum(parameter.numel() for parameter in model.parameters()) <= limit
        for parameter in engine._in_units():  # what is in memory is final
            if parameter.tensor.numel():
                assert torch.equal(parameter.tensor, engine._value_of(parameter)), parameter.name
        assert_same(values(engine), expected_values)
        assert engine.digest() == expected_digest
        return orlop.Stats(**engine.stats())


LIMITS = {"nothing": 0, "half": 3 * UNIT, "all": 100 * UNIT}
MODELS = [Deep, Branching, Recomputed, RecomputedReentrant, PartlyFrozen, Nested]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("model", MODELS)
def test_training_gives_the_same_bits_under_every_limit(model: type[Deep], limit: str, store: Path) -> None:
    stats = run_limited(model, regression, store, LIMITS[limit])
    assert (stats.unit_hits > 0) == (limit != "nothing")


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("mode", ["none", "reentrant", "non-reentrant"])
def test_a_language_model_gives_the_same_bits_under_every_limit(mode: str, limit: str, store: Path) -> None:
    run_limited(lambda: wide_llama(mode), language, store, LIMITS[limit])


@pytest.mark.parametrize("ahead", [0, 1, 2 * UNIT])
def test_reading_ahead_changes_nothing(ahead: int, store: Path) -> None:
    run_limited(Deep, regression, store, 2 * UNIT, stage3_prefetch_bucket_size=ahead)


def test_everything_in_memory_is_read_once(store: Path) -> None:
    stats = run_limited(Deep, regression, store, LIMITS["all"])
    assert stats.unit_fetches <= 7 and stats.unexpected_uses == 0


@pytest.mark.parametrize("limit", [2 * UNIT, 100 * UNIT])
def test_a_pass_that_failed_or_was_an_evaluation_changes_nothing(limit: int, store: Path) -> None:
    def steps(engine: orlop.Engine) -> list[float]:
        found = regression(engine)
        batch = batches(1)[0]
        for _ in failing_passes(engine, "layers.1", batch):
            with torch.no_grad():
                found.append(float(engine(batch[0]).sum()))
                found.append(float(engine.module(batch[0]).sum()))
            found += regression(engine)
        return found

    run_limited(Deep, steps, store, limit)


def test_several_backwards_of_one_forward_find_their_parameters(store: Path) -> None:
    def steps(engine: orlop.Engine) -> list[float]:
        losses = []
        for inputs, targets in batches(3):
            loss = nn.functional.mse_loss(engine(inputs), targets)
            losses.append(float(engine.backward(loss, retain_graph=True)))
            engine._flow.discard()
            losses.append(float(engine.backward(loss)))
            engine.step()
        return losses

    run_limited(Deep, steps, store, 2 * UNIT)


def test_generation_is_served_and_not_remembered(store: Path) -> None:
    model = wide_llama("none")
    expected = copy.deepcopy(model).eval()
    prompt = torch.arange(6).reshape(1, 6)
    with orlop.initialize(model=model, config=stored(store, live_parameters=3 * UNIT))[0] as engine:
        engine.eval()
        given = model.generate(prompt, max_new_tokens=5, do_sample=False)
        assert torch.equal(given, expected.generate(prompt, max_new_tokens=5, do_sample=False))
        engine.train()
        language(engine)
        assert engine.unexpected_uses() == {}


def test_what_was_changed_in_a_gathering_is_lost_though_there_is_room(store: Path) -> None:
    model = Deep()
    inputs = batches(1)[0][0]
    expected = copy.deepcopy(model)(inputs)
    with orlop.initialize(model=model, config=stored(store, live_parameters=100 * UNIT))[0] as engine:
        assert torch.equal(engine(inputs), expected)
        with orlop.zero.GatheredParameters(model.layers[2].weight):
            model.layers[2].weight.data.zero_()
        assert torch.equal(engine(inputs), expected)


def test_a_gathering_beyond_the_limit_is_served_with_a_warning(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = Deep()
    with orlop.initialize(model=model, config=stored(store))[0]:
        with orlop.zero.GatheredParameters(model):
            assert len(live(model)) == len(list(model.parameters()))
        assert live(model) == []
        assert caplog.text.count("outside a pass") == 1


def test_what_is_written_or_loaded_is_what_modules_use(store: Path, tmp_path: Path) -> None:
    model = Deep()
    inputs = batches(1)[0][0]
    with orlop.initialize(model=model, config=stored(store, live_parameters=100 * UNIT))[0] as engine:
        engine.save_checkpoint(tmp_path)
        before = engine(inputs).detach()
        regression(engine)
        engine.load_checkpoint(tmp_path)
        assert live(model) == []
        assert torch.equal(engine(inputs), before)
        engine.write_plane("layers.3.weight", "param", torch.zeros(WIDTH, WIDTH))
        assert not torch.equal(engine(inputs), before)
        assert not model.layers[3].weight.any()
    shutil.rmtree(tmp_path / "global_step0")
    _native.reclaim(str(store), dry_run=False)


def test_uses_in_another_order_are_counted_by_module(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="orlop")
    model = Branching()
    with orlop.initialize(model=model, config=stored(store, live_parameters=2 * UNIT))[0] as engine:
        regression(engine)
        counts = engine.unexpected_uses()
        assert counts["layers.3"] > 0 and counts["layers.1"] > 0 and "last" not in counts
        assert "unexpected uses so far" in caplog.text and "layers.3" in caplog.text
        assert sum(counts.values()) == engine.stats()["unexpected_uses"]
        units = engine.describe()["units"]
        assert sum(unit["uses"]["unexpected"] for unit in units) == engine.stats()["unexpected_uses"]


def test_the_trace_shows_what_stays_and_what_goes(store: Path, tmp_path: Path) -> None:
    config = stored(store, live_parameters=3 * UNIT, orlop={"trace": True})
    with orlop.initialize(model=Deep(), config=config)[0] as engine:
        regression(engine)
        engine.write_trace(tmp_path / "trace.json")
        stats = engine.stats()
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = [event["name"] for event in events if event.get("cat") == "unshard"]
    assert names.count("unshard") == stats["unit_fetches"] and names.count("reuse") == stats["unit_hits"]
    assert names.count("keep") > 0 and names.count("release") > 0


def test_a_budget_without_room_for_the_largest_module_is_refused_by_its_name(store: Path) -> None:
    model = Deep()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    config = stored(store, orlop={"memory": {"host": "1MiB"}})
    with pytest.raises(orlop.OrlopError, match=r'the largest unit of the store while in use \("layers\.\d\.weight"\)'):
        orlop.initialize(model=model, config=config)
    assert_same({name: value.detach() for name, value in model.named_parameters()}, before)


def test_memory_is_planned_for_what_is_in_use_at_once(store: Path) -> None:
    """A module's own parameters while its children run, and all of a module that computes with its children's."""

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixing = nn.Parameter(torch.ones(WIDTH, WIDTH))
            self.attention = nn.MultiheadAttention(WIDTH, 2)
            self.layer = nn.Linear(WIDTH, WIDTH)

    with orlop.initialize(model=Whole(), config=stored(store))[0] as engine:
        units = engine.describe()["units"]
        assert [unit["elements"] // WIDTH**2 for unit in units] == [1, 4, 1]
        assert engine.stats()["live_limit_bytes"] == 4 * (units[0]["elements"] + units[1]["elements"])
