"""Training that is interrupted and resumed equals training that is not, bit for bit; what is damaged is refused."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orlop
import pytest
import torch
from conftest import TwoLayers, batches, config, offload, values
from torch import Tensor, nn

PRECISIONS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "bf16": {"bf16": {"enabled": True}},
    "fp16": {"fp16": {"enabled": True, "initial_scale_power": 8, "loss_scale_window": 2}},
}


class Model(nn.Module):
    """With what a checkpoint must carry beside parameters: dropout (random numbers), a buffer, a frozen parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(13, 37)
        self.norm = nn.BatchNorm1d(37, affine=False)
        self.second = nn.Linear(37, 5)
        self.scale = nn.Parameter(torch.full((5,), 0.5), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = nn.functional.dropout(self.first(x.to(self.first.weight.dtype)), 0.2)
        return self.second(self.norm(hidden.float()).to(hidden.dtype)) * self.scale


def start(tier: str, folder: Path, **changes: Any) -> orlop.Engine:
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    where = None
    if tier == "nvme":
        where = folder / "nvme"
        where.mkdir(exist_ok=True)
    settings = config(zero_optimization=offload(tier, where), gradient_clipping=0.3, **changes)
    model = Model()
    return orlop.initialize(
        model=model, config=settings, lr_scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 2, gamma=0.7)
    )[0]


def train(engine: orlop.Engine, updates: int) -> None:
    data = batches(2)
    for _ in range(updates * engine.gradient_accumulation_steps()):
        x, y = data[engine.micro_steps % 2]
        noise = random.random() + float(np.random.rand())  # of every generator there is
        engine.backward((engine(x + noise) - y).float().pow(2).mean())
        engine.step()


def everything(engine: orlop.Engine) -> tuple[Any, ...]:
    buffers = {name: tensor.clone() for name, tensor in engine.module.named_buffers()}
    return (
        engine.digest(),
        engine.global_steps,
        engine.skipped_steps,
        engine.loss_scale(),
        engine.get_lr(),
        {name: tensor.tolist() for name, tensor in buffers.items()},
        random.random(),
        float(np.random.rand()),
        torch.rand(3).tolist(),
    )


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("saved", "loaded"), [("cpu", "cpu"), ("cpu", "nvme"), ("nvme", "cpu"), ("nvme", "nvme")])
def test_resumed_training_equals_uninterrupted(precision: str, saved: str, loaded: str, tmp_path: Path) -> None:
    changes = PRECISIONS[precision] | {"gradient_accumulation_steps": 2}
    with start("cpu", tmp_path, **changes) as engine:
        train(engine, 6)
        expected = everything(engine)
    with start(saved, tmp_path, **changes) as engine:
        train(engine, 3)
        assert engine.save_checkpoint(tmp_path / "checkpoints", client_state={"note": 3})
        train(engine, 1)
    with start(loaded, tmp_path, **changes) as engine:
        train(engine, 2)
        path, client = engine.load_checkpoint(tmp_path / "checkpoints")
        assert path == str(tmp_path / "checkpoints" / "global_step3")
        assert client == {"note": 3}
        train(engine, 3)
        assert everything(engine) == expected


@pytest.mark.parametrize("tier", ["cpu", "nvme"])
def test_frozen_parameters_may_be_left_out(tier: str, tmp_path: Path) -> None:
    with start(tier, tmp_path) as engine:
        train(engine, 2)
        engine.save_checkpoint(tmp_path, exclude_frozen_parameters=True)
        train(engine, 2)
        expected = everything(engine)
    with start(tier, tmp_path) as engine:
        with pytest.raises(orlop.InvalidArgumentError, match='"scale" is not in the checkpoint'):
            engine.load_checkpoint(tmp_path)
        engine.load_checkpoint(tmp_path, load_module_strict=False)
        train(engine, 2)
        assert everything(engine) == expected


def test_what_only_the_model_or_the_checkpoint_has_can_be_passed_over(tmp_path: Path) -> None:
    with start("cpu", tmp_path) as engine:
        train(engine, 2)
        engine.save_checkpoint(tmp_path)
        saved = {name: engine.read_plane(name, "exp_avg") for name in ("first.weight", "second.bias")}
    model = Model()
    model.third = nn.Linear(5, 5)
    del model.scale
    model.scale = 1
    model.norm = nn.BatchNorm1d(37, affine=False, track_running_stats=False)
    before = values(model.third)
    with orlop.initialize(model=model, config=config())[0] as engine:
        engine.load_checkpoint(tmp_path, load_module_strict=False)
        assert values(model.third).keys() == before.keys()
        assert all(torch.equal(value, before[name]) for name, value in values(model.third).items())
        assert all(torch.equal(engine.read_plane(name, "exp_avg"), value) for name, value in saved.items())


SCRIPT = """
import sys, pathlib
sys.path.insert(0, sys.argv[4])
from checkpoint_test import PRECISIONS, everything, start, train
folder, tier, precision = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
engine = start(tier, folder, **PRECISIONS[precision])
engine.load_checkpoint(folder / "checkpoints")
print("ready", flush=True)
while engine.global_steps < 60:
    train(engine, 1)
    if engine.global_steps % 2 == 0:
        engine.save_checkpoint(folder / "checkpoints")
print(repr(everything(engine)), flush=True)
"""


@pytest.mark.parametrize("tier", ["cpu", "nvme"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_killed_at_any_moment_it_goes_on_from_the_last_checkpoint(tier: str, precision: str, tmp_path: Path) -> None:
    changes = PRECISIONS[precision] | {"orlop": {"checkpoint": {"keep": 2}}}
    with start("cpu", tmp_path, **changes) as engine:
        train(engine, 60)
        expected = repr(everything(engine))
    arguments = [sys.executable, "-c", SCRIPT, str(tmp_path), tier, precision, str(Path(__file__).parent)]
    chance = random.Random(f"{tier} {precision}")
    kills = 0
    for _ in range(3):
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        if kills < 2:
            time.sleep(chance.uniform(0.02, 0.25))
            process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
        if process.wait() == 0:
            assert rest.strip() == expected
            return
        kills += 1
    pytest.fail("it never came to its end")


def test_keep_bounds_what_is_kept_and_the_room_it_takes(tmp_path: Path) -> None:
    sizes = []
    with start("nvme", tmp_path, orlop={"checkpoint": {"keep": 2}}) as engine:
        for _ in range(6):
            train(engine, 1)
            engine.save_checkpoint(tmp_path / "checkpoints")
            sizes.append(engine.stats()["nvme_bytes"])
        kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
        assert kept == ["global_step5", "global_step6", "latest"]
    assert len(set(sizes[2:])) == 1


def test_what_latest_names_is_not_removed(tmp_path: Path) -> None:
    with start("cpu", tmp_path, orlop={"checkpoint": {"keep": 1}}) as engine:
        engine.save_checkpoint(tmp_path, tag="named")
        for tag in ("a", "b"):
            engine.save_checkpoint(tmp_path, tag=tag, save_latest=False)
        assert sorted(path.parent.name for path in tmp_path.glob("*/rank0.manifest")) == ["b", "named"]
        assert engine.load_checkpoint(tmp_path)[0] == str(tmp_path / "named")


def test_ctrl_c_in_a_step_ends_a_background_save_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: dict[str, Any] = {"checkpoint": {"background": True, "rate": 1 << 20}}
    engine = start("cpu", tmp_path, orlop=settings)
    train(engine, 1)
    engine.save_checkpoint(tmp_path, tag="whole")

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine._native, "step_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(engine, 1)
    assert not engine.is_open
    if (tmp_path / "latest").exists():  # it was complete by then
        with start("cpu", tmp_path) as again:
            again.load_checkpoint(tmp_path)


def test_a_checkpoint_can_be_saved_behind_the_training(tmp_path: Path) -> None:
    with start("cpu", tmp_path, orlop={"checkpoint": {"background": True, "rate": 1 << 20}}) as engine:
        train(engine, 1)
        digest = engine.digest()
        assert engine.save_checkpoint(tmp_path)
        train(engine, 2)
    assert (tmp_path / "latest").read_text() == "global_step1"
    with start("cpu", tmp_path) as engine:
        engine.load_checkpoint(tmp_path)
        assert engine.digest() == digest


def test_the_clients_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {
        "tensor": torch.arange(6).view(2, 3).t(),
        "bf16": torch.ones(3, dtype=torch.bfloat16),
        "empty": torch.empty(0),
        "array": np.arange(4.0),
        "numpy": np.float32(0.1),
        "numbers": [1, 2.5, float("inf"), 10**30, -0.0, True, None],
        "tuple": (1, ("a", b"bytes")),
        "by number": {3: "three", (1, 2): {"x": torch.Size([4])}},
        "dtype": torch.float16,
        "counter": dict(Counter("abca")),
        "$orlop": "no marker",
    }
    with start("cpu", tmp_path) as engine:
        engine.save_checkpoint(tmp_path, tag="all", client_state=state)
        _, found = engine.load_checkpoint(tmp_path)
    assert found is not None
    assert list(found) == list(state)
    for name, value in state.items():
        if isinstance(value, Tensor):
            assert found[name].dtype == value.dtype
            assert torch.equal(found[name], value)
        elif isinstance(value, np.ndarray):
            assert np.array_equal(found[name], value)
        else:
            assert found[name] == value
    assert type(found["tuple"]) is tuple


def test_what_has_no_place_in_a_checkpoint_is_named(tmp_path: Path) -> None:
    with start("cpu", tmp_path) as engine:
        with pytest.raises(orlop.InvalidArgumentError, match=r"client_state\.a\.1: a TwoLayers has no place"):
            engine.save_checkpoint(tmp_path / "c", client_state={"a": [1, TwoLayers()]})
        assert not (tmp_path / "c").exists()


def test_tensors_under_keys_with_dots_stay_apart(tmp_path: Path) -> None:
    state = {"a": {"b": torch.zeros(1)}, "a.b": torch.ones(1)}
    with start("cpu", tmp_path) as engine:
        engine.save_checkpoint(tmp_path, tag="t", client_state=state)
    found = orlop.client_state(tmp_path / "t")
    assert found["a"]["b"].item() == 0 and found["a.b"].item() == 1


def test_shapes_and_buffers_must_be_those_that_were_saved(tmp_path: Path) -> None:
    def model(rows: int, columns: int, with_buffer: bool) -> nn.Module:
        made = nn.Linear(columns, rows)
        if with_buffer:
            made.register_buffer("seen", torch.zeros(3))
        return made

    with orlop.initialize(model=model(6, 2, True), config=config())[0] as engine:
        engine.save_checkpoint(tmp_path)
    for rows, columns, with_buffer, what in (
        (2, 6, True, r"shape \(2, 6\), \(6, 2\) was saved"),
        (6, 2, False, 'buffer "seen" is only in'),
    ):
        with orlop.initialize(model=model(rows, columns, with_buffer), config=config())[0] as engine:
            before = engine.digest()
            with pytest.raises(orlop.InvalidArgumentError, match=what):
                engine.load_checkpoint(tmp_path)
            assert engine.digest() == before


@pytest.mark.parametrize("moved", ["checkpoints", "checkpoints/global_step2"])
def test_a_checkpoint_that_was_moved_is_not_taken_for_deleted(moved: str, tmp_path: Path) -> None:
    with start("nvme", tmp_path) as engine:
        train(engine, 2)
        digest = engine.digest()
        engine.save_checkpoint(tmp_path / "checkpoints")
        (tmp_path / "far" / "away").mkdir(parents=True)
        (tmp_path / moved).rename(tmp_path / "far" / "away" / "kept")
        for _ in range(4):  # in a new directory of the old name
            train(engine, 1)
            engine.save_checkpoint(tmp_path / "checkpoints")
    kept = tmp_path / "far" / "away" / "kept"
    with start("cpu", tmp_path) as engine:
        if moved == "checkpoints":
            engine.load_checkpoint(kept)
        else:
            engine.load_checkpoint(kept.parent, tag="kept")
        assert engine.digest() == digest


def test_new_parameters_wait_for_a_save_under_way(tmp_path: Path) -> None:
    with start("cpu", tmp_path, orlop={"checkpoint": {"background": True, "rate": 1 << 20}}) as engine:
        train(engine, 1)
        digest = engine.digest()
        engine.save_checkpoint(tmp_path)
        engine.load_module_state_dict({name: tensor + 1 for name, tensor in engine.module_state_dict().items()})
    with start("cpu", tmp_path) as engine:
        engine.load_checkpoint(tmp_path)
        assert engine.digest() == digest


def test_latest_is_no_tag(tmp_path: Path) -> None:
    with start("cpu", tmp_path) as engine, pytest.raises(ValueError, match="not 'latest'"):
        engine.save_checkpoint(tmp_path, tag="latest")


def test_without_a_latest_checkpoint_nothing_is_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with start("cpu", tmp_path) as engine:
        assert engine.load_checkpoint(tmp_path) == (None, None)
        assert "no file 'latest'" in caplog.text
        with pytest.raises(orlop.NotFoundError, match="no such directory"):
            engine.load_checkpoint(tmp_path, tag="none")
        for folder in (None, ""):
            with pytest.raises(ValueError, match="name one"):
                engine.load_checkpoint(folder)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="name one"):
                engine.save_checkpoint(folder)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="tag"):
            engine.save_checkpoint(tmp_path, tag="../up")
        engine.save_checkpoint(tmp_path, tag="first")
        engine.save_checkpoint(tmp_path, tag="second", save_latest=False)
        assert engine.load_checkpoint(tmp_path)[0] == str(tmp_path / "first")


def test_parameters_alone(tmp_path: Path) -> None:
    with start("cpu", tmp_path) as engine:
        train(engine, 2)
        saved = values(engine.module)
        engine.save_checkpoint(tmp_path)
    for flags in ({"load_module_only": True}, {"load_optimizer_states": False}):
        with start("cpu", tmp_path) as engine:
            train(engine, 1)
            moments = engine.read_plane("first.weight", "exp_avg")
            engine.load_checkpoint(tmp_path, **flags)  # type: ignore[arg-type]
            assert all(torch.equal(tensor, saved[name]) for name, tensor in values(engine.module).items())
            assert torch.equal(engine.read_plane("first.weight", "exp_avg"), moments)
            assert engine.global_steps == 1


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))


@pytest.mark.parametrize("pattern", ["rank0.manifest", "rank0-*.states", "client-*.safetensors"])
def test_a_damaged_checkpoint_is_refused_and_the_older_one_loads(pattern: str, tmp_path: Path) -> None:
    with start("cpu", tmp_path) as engine:
        train(engine, 1)
        digest = engine.digest()
        engine.save_checkpoint(tmp_path, tag="old")
        train(engine, 1)
        engine.save_checkpoint(tmp_path, tag="new")
    victim = next((tmp_path / "new").glob(pattern))
    flip(victim, 50 if "client" in pattern else victim.stat().st_size // 2)
    with start("cpu", tmp_path) as engine, pytest.raises(orlop.CorruptError, match="older checkpoint"):
        engine.load_checkpoint(tmp_path)
    with start("cpu", tmp_path) as engine:
        engine.load_checkpoint(tmp_path, tag="old")
        assert engine.digest() == digest


def test_another_model_is_refused_with_the_differences(tmp_path: Path) -> None:
    with start("cpu", tmp_path) as engine:
        engine.save_checkpoint(tmp_path)
    with (
        orlop.initialize(model=TwoLayers(), config=config())[0] as engine,
        pytest.raises(orlop.InvalidArgumentError, match=r'6 differences: .*"scale" is only in the checkpoint'),
    ):
        engine.load_checkpoint(tmp_path)


@pytest.mark.parametrize("on_failure", ["stop", "continue"])
def test_without_room_the_previous_checkpoint_stays(on_failure: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"checkpoint": {"on_failure": on_failure}, "memory": {"nvme": "1500KiB"}}
    with start("nvme", tmp_path, orlop=settings) as engine:
        train(engine, 1)
        digest = engine.digest()
        assert engine.save_checkpoint(tmp_path, tag="fits")
        for _ in range(9):
            train(engine, 1)
            if on_failure == "stop":
                try:
                    engine.save_checkpoint(tmp_path, tag=f"more{engine.global_steps}")
                except orlop.NoSpaceError as error:
                    assert "orlop.memory.nvme" in str(error)
                    break
            elif not engine.save_checkpoint(tmp_path, tag=f"more{engine.global_steps}"):
                break
        else:
            pytest.fail("there was room for everything")
        train(engine, 1)
        engine.load_checkpoint(tmp_path, tag="fits")
        assert engine.digest() == digest


def test_a_save_leaves_no_file_behind_but_its_own(tmp_path: Path) -> None:
    with start("nvme", tmp_path) as engine:
        for _ in range(3):
            train(engine, 1)
            engine.save_checkpoint(tmp_path / "checkpoints", tag="same")
    names = sorted(path.name.split("-")[0] for path in (tmp_path / "checkpoints" / "same").iterdir())
    assert names == ["client", "rank0", "rank0.manifest"]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == ["latest", "same"]
