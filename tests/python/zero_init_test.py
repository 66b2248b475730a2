"""zero.Init: a model whose values wait in a file is the model that would have been built without it, bit for bit."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orlop
import pytest
import torch
from conftest import TwoLayers, batches, config, same, tiny_llama, train, values
from orlop import _init, _scratch, _units
from torch import Tensor, nn


def on_nvme(store: Path, **changes: Any) -> dict[str, Any]:
    return config(
        zero_optimization={
            "stage": 3,
            "offload_optimizer": {"device": "nvme", "nvme_path": str(store)},
            "offload_param": {"device": "nvme"},
            "stage3_param_persistence_threshold": 0,
        },
        **changes,
    )


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every parameter leaves as soon as another is used."""
    monkeypatch.setattr(_init, "_KEPT_BYTES", 0)


def in_memory(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.numel() > 0]


def values_of(model: nn.Module) -> dict[str, Tensor]:
    with orlop.zero.GatheredParameters(model):
        return values(model)


class Initialised(nn.Module):
    """What models do to their parameters while they are made."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6, padding_idx=3)
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
        self.mixer = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 12), 2)  # copies its layer
        self.recurrent = nn.LSTM(6, 6)
        self.scales = nn.ParameterList(nn.Parameter(torch.randn(6)) for _ in range(2))
        self.head = nn.Linear(6, 11, bias=False)
        self.register_buffer("table", torch.arange(6.0))
        self.head.weight = self.embed.weight
        self.apply(self.set_values)
        with torch.no_grad():
            self.layers[1].weight.copy_(self.layers[0].weight.t())  # from another, in place
            self.layers[2].bias[2:4] = 5.0
            self.scales[1].data *= self.scales[0].norm()
            self.embed.weight[3].fill_(0.5)
        row = self.layers[0].weight.data[1]  # a view that outlives the use of others
        self.layers[1].bias.data.normal_()
        self.layers[2].weight.data.normal_()
        row.fill_(7.0)
        self.size = sum(parameter.numel() for parameter in self.parameters())
        self.shapes = [tuple(parameter.shape) for parameter in self.parameters()]

    def set_values(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight)
            if module.bias is not None:
                module.bias.data.uniform_()
        if isinstance(module, nn.Embedding):
            module.weight.data.normal_(std=0.02)


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "two layers": TwoLayers,
    "initialised": Initialised,
    "llama": tiny_llama,
    "llama, untied": lambda: tiny_llama(tie_word_embeddings=False),
}


def built_twice(make: Callable[[], nn.Module], settings: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """Without Init and with it, from one seed, after which the random numbers are the same, too."""
    torch.manual_seed(3)
    plain = make()
    after = torch.get_rng_state()
    torch.manual_seed(3)
    with orlop.zero.Init(config_dict_or_path=settings):
        model = make()
    assert torch.equal(torch.get_rng_state(), after)
    return plain, model


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", BUILDERS)
def test_values_and_random_numbers_are_those_without_it(name: str, store: Path) -> None:
    plain, model = built_twice(BUILDERS[name], on_nvme(store))
    assert in_memory(model) == []
    assert same(values_of(model), values(plain))
    assert in_memory(model) == []
    assert [tuple(p.ds_shape) for p in model.parameters()] == [tuple(p.shape) for p in plain.parameters()]
    assert sum(p.ds_numel for p in model.parameters()) == sum(p.numel() for p in plain.parameters())
    assert len({p.ds_id for p in model.parameters()}) == len(list(model.parameters()))
    assert all(p.ds_status is orlop.zero.ZeroParamStatus.NOT_AVAILABLE for p in model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), plain.buffers(), strict=True))
    assert getattr(model, "size", 0) == getattr(plain, "size", 0)
    assert getattr(model, "shapes", 0) == getattr(plain, "shapes", 0)


def test_what_fits_stays_until_the_end_of_the_block(store: Path) -> None:
    with orlop.zero.Init(config_dict_or_path=on_nvme(store)):
        model = TwoLayers()
        assert in_memory(model) == [name for name, _ in model.named_parameters()]
    assert in_memory(model) == []


@pytest.mark.parametrize("precision", [{}, {"bf16": {"enabled": True}}, {"fp16": {"enabled": True}}])
@pytest.mark.parametrize("device", ["nvme", "cpu", "none"])
def test_training_gives_the_same_bits(precision: dict[str, Any], device: str, store: Path) -> None:
    settings = on_nvme(store, **precision)
    settings["zero_optimization"]["offload_param"]["device"] = device
    plain, model = built_twice(TwoLayers, settings)
    assert (in_memory(model) == []) == (device == "nvme")
    expected = orlop.initialize(model=plain, config=config(**precision))[0]
    engine = orlop.initialize(model=model, config=settings)[0]
    with expected, engine:
        assert engine.digest() == expected.digest()
        for batch in batches(2):
            for each in (expected, engine):
                inputs = batch[0].to(next(iter(each.module_state_dict().values())).dtype)
                each.backward(nn.functional.mse_loss(each(inputs).float(), batch[1]))
                each.step()
        assert engine.digest() == expected.digest()


def test_an_engine_of_another_tier_takes_the_values(store: Path) -> None:
    plain, model = built_twice(TwoLayers, on_nvme(store))
    expected, engine = (orlop.initialize(model=each, config=config())[0] for each in (plain, model))
    with expected, engine:
        assert same(values(model), values(plain))
        assert train(engine, 2) == train(expected, 2)
        assert engine.digest() == expected.digest()
    assert in_memory(model) == [name for name, _ in plain.named_parameters()]


def test_tied_weights_are_one_parameter(store: Path) -> None:
    _, model = built_twice(Initialised, on_nvme(store))
    assert model.head.weight is model.embed.weight
    with orlop.initialize(model=model, config=on_nvme(store))[0] as engine:
        assert "head.weight" not in [parameter.name for parameter in engine._registered]


@pytest.mark.usefixtures("eager")
def test_modules_that_are_made_empty_and_filled_later(store: Path) -> None:
    def make() -> nn.Module:
        model = nn.Sequential(nn.utils.skip_init(nn.Linear, 4, 6), nn.LazyLinear(3), TwoLayers().double().float())
        nn.init.normal_(model[0].weight)
        nn.init.normal_(model[0].bias)
        model[1](torch.rand(2, 6))
        return nn.utils.parametrizations.weight_norm(model[0]) and model

    plain, model = built_twice(make, on_nvme(store))
    assert in_memory(model) == []
    assert same(values_of(model), values(plain))


def test_tied_weights_that_stay_in_memory_are_ordinary(store: Path) -> None:
    with orlop.zero.Init(config_dict_or_path=on_nvme(store)):
        model = Initialised()
        held = model.head.weight.data
    assert model.head.weight is model.embed.weight and model.head.weight.data_ptr() == held.data_ptr()
    pickle.dumps(model.head)


class WithFrozen(TwoLayers):
    def __init__(self) -> None:
        super().__init__()
        self.first.requires_grad_(False)
        self.register_parameter("nothing", None)
        self.empty = nn.Parameter(torch.empty(0, 4), requires_grad=False)
        self.counts = nn.Parameter(torch.arange(8), requires_grad=False)
        self.wide = nn.Parameter(torch.rand(8, dtype=torch.float64), requires_grad=False)


def test_frozen_parameters_and_those_of_other_types_keep_their_values(store: Path) -> None:
    plain, model = built_twice(WithFrozen, on_nvme(store))
    assert not model.first.weight.requires_grad
    with orlop.initialize(model=model, config=on_nvme(store))[0] as engine:
        assert "first.weight" not in in_memory(model) and {"counts", "wide"} <= set(in_memory(model))
        train(engine, 1)
        state = engine.module_state_dict()
        for name in ("first.weight", "first.bias", "counts", "wide"):
            assert torch.equal(state[name], plain.state_dict()[name]), name


def test_the_type_is_that_of_the_block_or_of_the_configuration(store: Path) -> None:
    for dtype, precision, expected in (
        (None, {}, torch.float32),
        (None, {"bf16": {"enabled": True}}, torch.bfloat16),
        (None, {"fp16": {"enabled": True}}, torch.float16),
        (torch.float16, {"bf16": {"enabled": True}}, torch.float16),
    ):
        torch.manual_seed(3)
        plain = TwoLayers().to(expected)
        torch.manual_seed(3)
        with orlop.zero.Init(config_dict_or_path=on_nvme(store, **precision), dtype=dtype):
            model = TwoLayers()
            model.register_buffer("table", torch.arange(3.0))
        assert {parameter.dtype for parameter in model.parameters()} == {expected}
        assert model.table.dtype == torch.float32
        assert same(values_of(model), values(plain))


def test_a_configuration_may_have_values_that_nobody_has_filled_in(store: Path) -> None:
    settings = on_nvme(store, train_micro_batch_size_per_gpu="auto", gradient_accumulation_steps="auto")
    settings["optimizer"]["params"]["lr"] = "auto"
    with orlop.zero.Init(config_dict_or_path=settings):
        assert TwoLayers().first.weight.ds_numel == 13 * 37


def test_disabled_or_without_a_configuration_everything_is_ordinary(store: Path) -> None:
    with orlop.zero.Init(config_dict_or_path=store / "none.json", enabled=False):
        model = TwoLayers()
    assert not hasattr(model.first.weight, "ds_id")
    with orlop.zero.Init():
        model = TwoLayers()
    assert model.first.weight.ds_numel == 13 * 37 and in_memory(model)
    assert model.first.weight.ds_status is orlop.zero.ZeroParamStatus.AVAILABLE
    assert copy.deepcopy(model).first.weight is not model.first.weight
    pickle.dumps(model)


@pytest.mark.usefixtures("eager")
def test_blocks_may_be_nested_and_entered_again(store: Path) -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4)
            with orlop.zero.Init(config_dict_or_path=on_nvme(store), dtype=torch.bfloat16):
                self.second = TwoLayers()
                with orlop.zero.Init(enabled=False):
                    self.third = nn.Linear(4, 4)
            nn.init.ones_(self.second.first.weight)  # still what it was made as

    plain = Nested()
    assert isinstance(plain.second, TwoLayers) and not _init.is_building()
    block = orlop.zero.Init(config_dict_or_path=on_nvme(store))
    with block:
        model = Nested()
    with block:
        other = nn.Linear(4, 4)
    assert in_memory(model) == [] and other.weight.numel() == 0
    found = values_of(model)
    assert bool((found["second.first.weight"] == 1).all())
    assert {name: value.dtype for name, value in found.items()}["first.weight"] == torch.float32
    assert found["third.weight"].dtype == torch.bfloat16  # made inside the block that asks for it


def test_after_an_exception_everything_is_ordinary_again(store: Path) -> None:
    class Failing(TwoLayers):
        def __init__(self) -> None:
            super().__init__()
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"), orlop.zero.Init(config_dict_or_path=on_nvme(store), dtype=torch.half):
        whole = TwoLayers()
        Failing()
    assert not _init.is_building()
    assert {parameter.dtype for parameter in whole.parameters()} == {torch.half}
    pickle.dumps(whole)
    model = TwoLayers()
    assert not hasattr(model.first.weight, "ds_id")
    model(batches(1)[0][0])


@pytest.mark.usefixtures("eager")
def test_what_was_made_before_or_outside_modules_is_left_alone(store: Path) -> None:
    before = TwoLayers()
    with orlop.zero.Init(config_dict_or_path=on_nvme(store)):
        loose = nn.Parameter(torch.ones(5))
        model = nn.Sequential(before, nn.Linear(5, 5))
        assert model(batches(1)[0][0]).shape == (8, 5)  # what is away comes for a forward inside, too
    assert loose.numel() == 5 and not hasattr(loose, "ds_id")
    assert in_memory(model) == ["0.first.weight", "0.first.bias", "0.norm.weight", "0.norm.bias", "0.second.weight",
                                "0.second.bias"]  # fmt: skip
    with orlop.initialize(model=model, config=on_nvme(store))[0] as engine:
        train(engine, 1)


def test_a_model_that_is_there_can_be_given(store: Path) -> None:
    model = TwoLayers()
    before = values(model)
    orlop.zero.Init(module=model, config_dict_or_path=on_nvme(store))
    assert in_memory(model) == [] and same(values_of(model), before)


def test_values_that_somebody_else_holds_stay(store: Path) -> None:
    with orlop.zero.Init(config_dict_or_path=on_nvme(store)):
        model = TwoLayers()
        row = model.first.weight.data[0]
        shared = model.second.weight.detach().numpy()
    row.fill_(3.0)
    shared[:] = 4.0
    assert in_memory(model) == ["first.weight", "second.weight"]
    assert bool((model.first.weight[0] == 3).all()) and bool((model.second.weight == 4).all())
    with orlop.initialize(model=model, config=on_nvme(store))[0] as engine:
        assert bool((engine.module_state_dict()["first.weight"][0] == 3).all())


def test_gathered_values_can_be_changed_before_initialize(store: Path) -> None:
    _, model = built_twice(TwoLayers, on_nvme(store))
    with orlop.zero.GatheredParameters(model.first.weight):
        model.first.weight.data.zero_()
        with orlop.zero.GatheredParameters(model):
            assert not model.first.weight.any()
        assert not model.first.weight.any()
    assert values_of(model)["first.weight"].any()
    with orlop.zero.GatheredParameters(model.first.weight, modifier_rank=0):
        model.first.weight.data.zero_()
    assert in_memory(model) == [] and not values_of(model)["first.weight"].any()
    with orlop.initialize(model=model, config=on_nvme(store))[0] as engine:
        assert not engine.module_state_dict()["first.weight"].any()


def test_a_copy_has_the_values_and_a_pickle_is_refused(store: Path) -> None:
    _, model = built_twice(TwoLayers, on_nvme(store))
    twin = copy.deepcopy(model)
    assert in_memory(twin) == []
    before = values_of(model)
    with orlop.zero.GatheredParameters(twin, modifier_rank=0):
        assert same(values(twin), before)
        twin.first.weight.data.zero_()
    assert same(values_of(model), before)
    del model
    with orlop.initialize(model=twin, config=on_nvme(store))[0] as engine:
        assert not engine.module_state_dict()["first.weight"].any()
    with orlop.zero.Init(config_dict_or_path=on_nvme(store)):
        model = TwoLayers()
    with pytest.raises(orlop.OutOfOrderError, match="save: on a parameter of shape .* not in memory"):
        pickle.dumps(model)


def test_a_module_that_is_used_before_its_parameters_exist_says_so(store: Path) -> None:
    _, model = built_twice(TwoLayers, on_nvme(store))
    inputs = batches(1)[0][0]
    with pytest.raises(orlop.OutOfOrderError, match=r"forward: on weight \(37, 13\) of a Linear: .* orlop.initialize"):
        model(inputs)
    with orlop.zero.GatheredParameters(model):
        expected = model(inputs)
    with orlop.initialize(model=model, config=on_nvme(store))[0] as engine:
        assert torch.equal(engine(inputs), expected)
        assert not any(hook is _init._refuse_forward for hook in model.first._forward_pre_hooks.values())


# ---- The file ----


def scratch_of(model: nn.Module) -> _scratch.Scratch:
    found = [getattr(parameter, "_orlop_parked", None) for parameter in model.parameters()]
    return next(each._source._scratch for each in found if each is not None and each.is_away)


def test_the_file_has_no_name_and_is_gone_after_initialize(store: Path) -> None:
    _, model = built_twice(TwoLayers, on_nvme(store))
    assert list(store.iterdir()) == []
    file = scratch_of(model)._file
    assert os.fstat(file).st_blocks > 0
    with orlop.initialize(model=model, config=on_nvme(store))[0], pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


def test_room_of_values_that_nobody_needs_is_given_back(store: Path) -> None:
    with orlop.zero.Init(config_dict_or_path=on_nvme(store)):
        model = nn.ModuleList(nn.Linear(512, 512, bias=False) for _ in range(4))
    file = scratch_of(model)._file
    full = os.fstat(file).st_blocks
    with orlop.zero.GatheredParameters(model, modifier_rank=0):
        pass
    assert os.fstat(file).st_blocks <= full
    del model[2:]
    assert os.fstat(file).st_blocks <= full // 2


def test_large_values_are_kept_in_several_pieces(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_scratch, orlop._weights):
        monkeypatch.setattr(module, "PIECE_BYTES", 8192)
    plain, model = built_twice(lambda: nn.Linear(100, 331), on_nvme(store, bf16={"enabled": True}))
    with orlop.initialize(model=model, config=on_nvme(store, bf16={"enabled": True}))[0] as engine:
        assert torch.equal(engine.module_state_dict()["weight"], plain.weight.bfloat16())
        assert torch.equal(engine.module_state_dict()["bias"], plain.bias.bfloat16())


def without_tmpfile(opened: Callable[..., int]) -> Callable[..., int]:
    """os.open on a filesystem where each file has a name."""

    def open_(path: Any, flags: int, *arguments: Any, **more: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return opened(path, flags, *arguments, **more)

    return open_


@pytest.mark.parametrize("direct", [True, False])
def test_damage_is_found(direct: bool, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not direct:
        monkeypatch.setattr(os, "open", without_tmpfile(os.open))
    _, model = built_twice(TwoLayers, on_nvme(store))
    scratch = scratch_of(model)
    assert direct or not scratch._is_direct
    assert values_of(model)
    file = os.open(f"/proc/self/fd/{scratch._file}", os.O_WRONLY)
    os.pwrite(file, b"x", 17)
    os.close(file)
    with pytest.raises(orlop.CorruptError, match="offset 0.*expected sum"):
        values_of(model)
    with pytest.raises(orlop.CorruptError, match="offset 0.*expected sum"):
        orlop.initialize(model=model, config=on_nvme(store))


def test_a_full_drive_is_one_sentence_and_loses_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = os.pwrite

    def full(file: int, data: Any, offset: int) -> int:
        if offset >= 4096:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(file, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    sentence = rf"zero.Init: on {store} \(\d+ bytes are free\): no room for 4096 bytes more of parameters"
    block = orlop.zero.Init(config_dict_or_path=on_nvme(store))
    with pytest.raises(orlop.NoSpaceError, match=sentence), block:
        model = TwoLayers()
        before = values(model)
    assert not _init.is_building()
    monkeypatch.setattr(os, "pwrite", written)
    assert same(values_of(model), before)
    with orlop.initialize(model=model, config=on_nvme(store))[0] as engine:
        assert same(engine.module_state_dict(), before)


def test_a_budget_of_the_drive_counts_what_is_being_built(store: Path) -> None:
    config_ = on_nvme(store, orlop={"memory": {"nvme": 4096 * 3}})
    sentence = (
        rf"budget orlop.memory.nvme \(12288 bytes\): {store} has 12288 bytes of parameters, and 4096 more are 4096"
    )
    with pytest.raises(orlop.NoSpaceError, match=sentence), orlop.zero.Init(config_dict_or_path=config_):
        model = TwoLayers()  # six parameters, a page each
        before = values(model)
    assert same(values_of(model), before) and scratch_of(model)._held <= 12288


def test_values_that_are_changed_again_and_again_take_their_room_once(store: Path) -> None:
    with orlop.zero.Init(config_dict_or_path=on_nvme(store, orlop={"memory": {"nvme": 4096}})):
        model = nn.Linear(4, 4, bias=False)
    for number in range(5):
        with orlop.zero.GatheredParameters(model.weight, modifier_rank=0):
            model.weight.data.fill_(number)
    assert torch.equal(values_of(model)["weight"], torch.full((4, 4), 4.0)) and scratch_of(model)._held == 4096


def test_the_store_and_what_waits_beside_it_are_one_budget(store: Path) -> None:
    plain, model = built_twice(TwoLayers, on_nvme(store))
    with orlop.initialize(model=copy.deepcopy(plain), config=on_nvme(store))[0] as engine:
        needed = engine.stats()["nvme_bytes"]
    waiting = scratch_of(model)._held
    short = on_nvme(store, orlop={"memory": {"nvme": needed + waiting - 1}})
    with pytest.raises(orlop.NoSpaceError, match=rf"the store needs {needed} bytes.*{waiting}: 1 bytes too many"):
        orlop.initialize(model=model, config=short)
    assert in_memory(model) == [] and same(values_of(model), values(plain))
    enough = on_nvme(store, orlop={"memory": {"nvme": needed + waiting}})
    with orlop.initialize(model=model, config=enough)[0] as engine:
        assert same(engine.module_state_dict(), values(plain))


def test_a_drive_without_room_is_known_before_anything_is_written(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_scratch.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=4000))
    with pytest.raises(
        orlop.NoSpaceError, match=r"\(4000 bytes are free\): 4096 bytes more of parameters are 96 too many"
    ):
        orlop.zero.Init(nn.Linear(4, 4, bias=False), config_dict_or_path=on_nvme(store))


def test_a_bad_directory_is_named(store: Path) -> None:
    for path, error in ((store / "missing", orlop.NotFoundError), (Path(__file__), orlop.UnsupportedError)):
        with pytest.raises(error, match=f"zero.Init: on {path}"), orlop.zero.Init(config_dict_or_path=on_nvme(path)):
            pass
    assert not _init.is_building()


# ---- What goes wrong ----


def test_an_initialization_that_fails_leaves_the_values_where_they_are(
    store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_units.Units, "_room", lambda _: 0)  # they need none
    plain, model = built_twice(TwoLayers, on_nvme(store))
    small = on_nvme(store, orlop={"memory": {"host": "1MiB"}})
    with pytest.raises(orlop.NoMemoryError, match="bytes too many"):
        orlop.initialize(model=model, config=small)
    assert list(store.iterdir()) == []
    other = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(TwoLayers().parameters(), lr=1.0), 1)
    for settings in (on_nvme(store), config()):
        with pytest.raises(orlop.ConfigError, match="it was made for another optimizer"):
            orlop.initialize(model=model, config=settings, lr_scheduler=other)
        assert in_memory(model) == [] and same(values_of(model), values(plain))
    with pytest.raises(orlop.OutOfOrderError, match="forward: on weight"):
        model(batches(1)[0][0])
    assert "do not fit" not in caplog.text
    with orlop.initialize(model=model, config=on_nvme(store))[0] as engine:
        assert same(engine.module_state_dict(), values(plain))


def test_misuse_is_refused_in_one_sentence(store: Path) -> None:
    settings = on_nvme(store)
    with orlop.zero.Init(config_dict_or_path=settings):
        model = TwoLayers()
        with pytest.raises(orlop.OutOfOrderError, match="initialize: inside a block of zero.Init: .* after"):
            orlop.initialize(model=model, config=settings)
    with orlop.initialize(model=model, config=settings)[0] as engine:
        with pytest.raises(orlop.OutOfOrderError, match="initialize: on first.weight: an engine has it"):
            orlop.initialize(model=model, config=settings)

        def build(*_: Any) -> None:
            with orlop.zero.Init(config_dict_or_path=settings):
                pass

        handle = model.register_forward_hook(build)
        with pytest.raises(orlop.OutOfOrderError, match="zero.Init: inside a forward or backward pass"):
            engine(batches(1)[0][0])
        handle.remove()
        output = engine(batches(1)[0][0])
        output.register_hook(build)
        with pytest.raises(orlop.OutOfOrderError, match="zero.Init: inside a forward or backward pass"):
            engine.backward(output.sum())
        train(engine, 1)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"mpu": object()}, orlop.UnsupportedError, "on mpu: this version runs one rank"),
        ({"zero_quantized_weights": True}, orlop.UnsupportedError, "on zero_quantized_weights: not supported"),
        ({"param_swapper": object()}, orlop.UnsupportedError, "on param_swapper: not supported"),
        ({"dtype": torch.int8}, orlop.UnsupportedError, "on dtype torch.int8: parameters can be torch.float32"),
        ({"remote_device": "gpu"}, orlop.ConfigError, 'remote_device .gpu.: must be "none", "cpu" or "nvme"'),
        ({"remote_device": "nvme"}, orlop.ConfigError, "nvme_path is missing"),
        ({"config": {}, "config_dict_or_path": {}}, orlop.ConfigError, "given twice"),
        ({"config": {"bf16": {"enabled": True}, "fp16": {"enabled": True}}}, orlop.ConfigError, "fp16"),
    ],
)
def test_arguments_that_cannot_be_honoured_are_refused(
    arguments: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        orlop.zero.Init(**arguments)


def test_arguments_without_effect_are_taken(store: Path) -> None:
    class Group:
        def size(self) -> int:
            return 1

    with orlop.zero.Init(data_parallel_group=Group(), mem_efficient_linear=False, pin_memory=True, remote_device="nvme",
                         config=on_nvme(store)):  # fmt: skip
        assert TwoLayers().first.weight.ds_numel == 13 * 37
