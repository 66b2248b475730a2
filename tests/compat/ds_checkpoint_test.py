"""Checkpoints as programs written for DeepSpeed save, look at and load them."""

from __future__ import annotations

import os
import shutil
import types
from pathlib import Path
from typing import Any

import deepspeed
import orlop
import pytest
import torch
from deepspeed.checkpoint.utils import clone_tensors_for_torch_save, get_model_ckpt_name_for_rank
from saving import PRECISIONS, Model, config, engine_of, everything, micro_batch, train
from torch import Tensor


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def torch_file(folder: Path, ending: str) -> dict[str, Any]:
    (path,) = folder.glob(f"*{ending}")
    content: dict[str, Any] = torch.load(path)  # weights only: nothing in it runs
    return content


# ---- Files ----


@pytest.mark.parametrize(
    ("stage", "precision", "names"),
    [
        (0, "fp32", {"mp_rank_00_model_states.pt"}),
        (1, "fp16", {"mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"}),
        (2, "bf16", {"mp_rank_00_model_states.pt", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"}),
        (
            3,
            "bf16",
            {"zero_pp_rank_0_mp_rank_00_model_states.pt", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"},
        ),
    ],
)
def test_files_have_deepspeeds_names(stage: int, precision: str, names: set[str], tmp_path: Path) -> None:
    with engine_of(config(stage, tmp_path, **PRECISIONS[precision])) as engine:
        train(engine, 2)
        assert engine.save_checkpoint(tmp_path / "c")
    assert names_in(tmp_path / "c") == {"global_step2", "latest", "zero_to_fp32.py"}
    assert (tmp_path / "c" / "latest").read_text() == "global_step2"
    assert os.access(tmp_path / "c" / "zero_to_fp32.py", os.X_OK)
    assert {name for name in names_in(tmp_path / "c" / "global_step2") if name.endswith(".pt")} == names


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_files_say_what_is_in_them(stage: int, tmp_path: Path) -> None:
    settings = config(stage, tmp_path, bf16={"enabled": True})
    with engine_of(settings) as engine:
        train(engine, 2)
        engine.save_checkpoint(tmp_path / "c", client_state={"mine": 3})
        expected = engine.module_state_dict()
    states = torch_file(tmp_path / "c" / "global_step2", "model_states.pt")
    assert states["mine"] == 3 and states["global_steps"] == 2 and states["skipped_steps"] == 0
    assert states["ds_config"]["zero_optimization"]["stage"] == stage
    assert states["lr_scheduler"]["last_epoch"] == 2
    assert states["shared_params"] == {"again.weight": "second.weight"}
    assert (
        states["param_shapes"][0]["first.weight"] == torch.Size([24, 12]) and states["param_shapes"][0]["scale"] == ()
    )
    assert states["frozen_param_shapes"].keys() == {"base.weight", "base.bias"}
    buffers = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert set(states["buffer_names"]) == buffers
    module: dict[str, Tensor] = states["module"]
    assert module.keys() == expected.keys()
    assert all(torch.equal(module[name], expected[name]) for name in (expected if stage < 3 else buffers))
    assert stage < 3 or module["first.weight"].numel() == 0
    if stage < 3:
        assert module["again.weight"].data_ptr() == module["second.weight"].data_ptr()
    if stage > 0:
        optimizer = torch_file(tmp_path / "c" / "global_step2", "optim_states.pt")
        assert optimizer["optimizer_state_dict"]["param_groups"][0]["lr"] == pytest.approx(0.007)
        assert "manifest" in optimizer["orlop"]["what"]


def test_frozen_parameters_may_be_left_out(tmp_path: Path) -> None:
    with engine_of(config(2, tmp_path)) as engine:
        train(engine, 2)
        engine.save_checkpoint(tmp_path, tag="all")
        engine.save_checkpoint(tmp_path, tag="trained", exclude_frozen_parameters=True)
        train(engine, 2)
        expected = everything(engine)
    assert not any(name.startswith("base") for name in torch_file(tmp_path / "trained", "model_states.pt")["module"])

    def size(tag: str) -> int:
        return sum(path.stat().st_size for path in (tmp_path / tag).glob("*.states"))

    assert size("trained") < size("all")
    with engine_of(config(2, tmp_path)) as engine:
        with pytest.raises(orlop.InvalidArgumentError, match='"base.weight" is not in the checkpoint'):
            engine.load_checkpoint(tmp_path, tag="trained")
        engine.load_checkpoint(tmp_path, tag="trained", load_module_strict=False)
        train(engine, 2)
        assert everything(engine) == expected


def test_a_save_that_fails_leaves_no_files(tmp_path: Path) -> None:
    with engine_of(config(2, tmp_path)) as engine:
        (tmp_path / "file").touch()
        with pytest.raises(OSError):
            engine.save_checkpoint(tmp_path / "file")
        engine._native.save_begin = lambda *_: (_ for _ in ()).throw(orlop.NoSpaceError("full"))  # type: ignore[method-assign]
        with pytest.raises(orlop.NoSpaceError):
            engine.save_checkpoint(tmp_path / "c")
        assert names_in(tmp_path / "c") == {"zero_to_fp32.py"}


def test_save_total_limit_keeps_the_disk_flat(tmp_path: Path) -> None:
    """The Trainer removes the oldest directory once the newest is saved."""
    sizes = []
    with engine_of(config(3, tmp_path / "nvme", "all on nvme", bf16={"enabled": True})) as engine:
        for step in range(1, 11):
            train(engine, 1)
            engine.save_checkpoint(tmp_path / "out" / f"checkpoint-{step}")
            shutil.rmtree(tmp_path / "out" / f"checkpoint-{step - 2}", ignore_errors=True)
            sizes.append(sum(path.stat().st_blocks for path in tmp_path.rglob("*") if path.is_file()))
    assert len(names_in(tmp_path / "out")) == 2
    assert len(set(sizes[3:])) == 1
    shutil.rmtree(tmp_path / "out")
    orlop._native.reclaim(str(tmp_path / "nvme"), False)
    assert not [path for path in (tmp_path / "nvme").rglob("*") if path.is_file()]


def test_without_its_store_a_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    settings = config(2, tmp_path / "nvme", "nvme", bf16={"enabled": True})
    with engine_of(settings) as engine:
        train(engine, 1)
        engine.save_checkpoint(tmp_path / "c")
        digest = engine.digest()
        shutil.copytree(tmp_path / "c", tmp_path / "copied")
        engine.load_checkpoint(tmp_path / "copied")
        assert engine.digest() == digest
    shutil.rmtree(tmp_path / "nvme")
    settings = config(2, tmp_path / "other", "nvme", bf16={"enabled": True})
    with engine_of(settings) as engine, pytest.raises(orlop.NotFoundError, match="orlop export --full"):
        engine.load_checkpoint(tmp_path / "c")


# ---- client_state ----


class Anything:
    def __init__(self) -> None:
        self.values = [1, 2]


def test_client_state_may_be_any_objects(tmp_path: Path) -> None:
    plain = {"epoch": 3, "tensor": torch.arange(4), 5: (1, "a")}
    objects = {"args": types.SimpleNamespace(lr=0.1), "thing": Anything(), "tensor": torch.ones(2)}
    with engine_of(config(0, tmp_path)) as engine:
        engine.save_checkpoint(tmp_path, tag="plain", client_state=plain)
        engine.save_checkpoint(tmp_path, tag="objects", client_state=objects)
        found = engine.load_checkpoint(tmp_path, tag="plain")[1]
        assert found is not None and torch.equal(found.pop("tensor"), plain.pop("tensor")) and found == plain
        found = engine.load_checkpoint(tmp_path, tag="objects")[1]
        assert found is not None and found["args"] == objects["args"] and found["thing"].values == [1, 2]
        assert torch.equal(found["tensor"], torch.ones(2))
        engine.save_checkpoint(tmp_path, tag="none")
        assert engine.load_checkpoint(tmp_path)[1] == {}


# ---- When, and where ----


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_saving_right_after_init_and_saving_what_was_just_loaded(stage: int, tmp_path: Path) -> None:
    with engine_of(config(stage, tmp_path)) as engine:
        engine.save_checkpoint(tmp_path / "first")
        digest = engine.digest()
        train(engine, 2)
        losses = everything(engine)
    with engine_of(config(stage, tmp_path), seed=9) as engine:
        engine.load_checkpoint(tmp_path / "first")
        assert engine.digest() == digest and engine.global_steps == 0
        engine.save_checkpoint(tmp_path / "second")
    with engine_of(config(stage, tmp_path), seed=10) as engine:
        engine.load_checkpoint(tmp_path / "second")
        train(engine, 2)
        assert everything(engine) == losses


def test_in_the_middle_of_accumulation_the_update_begins_again(tmp_path: Path) -> None:
    settings = config(2, tmp_path, gradient_accumulation_steps=3)
    with engine_of(settings) as engine:
        train(engine, 1)
        micro_batch(engine)
        engine.save_checkpoint(tmp_path)
    with engine_of(settings) as engine:
        engine.load_checkpoint(tmp_path)
        assert (engine.global_steps, engine.micro_steps) == (1, 3)
        losses = train(engine, 1)
        assert len(losses) == 3 and engine.global_steps == 2


def test_without_latest_nothing_is_loaded(tmp_path: Path) -> None:
    with engine_of(config(2, tmp_path)) as engine:
        digest = engine.digest()
        assert engine.load_checkpoint(tmp_path) == (None, None)
        assert engine.digest() == digest
        engine.save_checkpoint(tmp_path, tag="first")
        engine.save_checkpoint(tmp_path, tag="second", save_latest=False)
        path, _ = engine.load_checkpoint(tmp_path)
        assert path is not None and Path(path).parent == tmp_path / "first"


def test_a_checkpoint_of_deepspeeds_own_is_refused_with_the_way(tmp_path: Path) -> None:
    (tmp_path / "global_step1").mkdir()
    torch.save({"module": {}}, tmp_path / "global_step1" / "mp_rank_00_model_states.pt")
    (tmp_path / "latest").write_text("global_step1")
    with engine_of(config(2, tmp_path)) as engine:
        with pytest.raises(orlop.NotFoundError, match="DeepSpeed itself has written this one: .*orlop import"):
            engine.load_checkpoint(tmp_path)
        with pytest.raises(FileNotFoundError, match="no such directory"):
            engine.load_checkpoint(tmp_path, tag="none")


@pytest.mark.parametrize("folder", [None, ""])
def test_no_directory_is_a_value_error(folder: Any, tmp_path: Path) -> None:
    with engine_of(config(2, tmp_path)) as engine:
        with pytest.raises(ValueError, match="name one"):
            engine.save_checkpoint(folder)
        with pytest.raises(ValueError, match="name one"):
            engine.load_checkpoint(folder)


# ---- What is loaded ----


def test_flags_leave_out_what_they_name(tmp_path: Path) -> None:
    with engine_of(config(2, tmp_path)) as engine:
        train(engine, 3)
        engine.save_checkpoint(tmp_path)
        saved = engine.module_state_dict()
        scheduler = engine.lr_scheduler.state_dict()
    for flags, has_scheduler in (
        ({"load_module_only": True}, False),
        ({"load_optimizer_states": False}, True),
        ({"load_optimizer_states": False, "load_lr_scheduler_states": False}, False),
    ):
        with engine_of(config(2, tmp_path), seed=8) as engine:
            train(engine, 1)
            moments = engine.read_plane("first.weight", "exp_avg")
            engine.load_checkpoint(tmp_path, **flags)
            state = engine.module_state_dict()
            assert all(torch.equal(state[name], tensor) for name, tensor in saved.items())
            assert torch.equal(engine.read_plane("first.weight", "exp_avg"), moments)
            assert (engine.lr_scheduler.state_dict() == scheduler) == has_scheduler
            assert engine.global_steps == 3


@pytest.mark.parametrize("tier", ["none", "all on nvme"])
def test_a_function_of_the_programs_may_load_the_module(tier: str, tmp_path: Path) -> None:
    settings = config(3, tmp_path, tier, bf16={"enabled": True})

    def load(src: dict[str, Tensor], dst: torch.nn.Module) -> None:
        dst.load_state_dict({name: tensor for name, tensor in src.items() if name != "first.bias"}, strict=False)
        with torch.no_grad():
            dst.first.bias.fill_(2)

    with engine_of(settings) as engine:
        train(engine, 2)
        engine.save_checkpoint(tmp_path / "c")
        masters = engine.read_plane("first.weight", "master")
    with engine_of(settings, seed=8) as engine:
        engine.load_checkpoint(tmp_path / "c", custom_load_fn=load)
        assert torch.equal(engine.read_plane("first.weight", "master"), masters)  # not rounded: it was not changed
        assert torch.equal(engine.read_plane("first.bias", "master"), torch.full((24,), 2.0))
        engine.load_module_state_dict({"module": engine.module_state_dict()})
        engine.load_module_state_dict(engine.module_state_dict(), custom_load_fn=load)
        train(engine, 1)


# ---- Weights ----


@pytest.mark.parametrize(("stage", "tier"), [(0, "none"), (2, "cpu"), (3, "none"), (3, "all on nvme")])
def test_weights_in_16_bits(stage: int, tier: str, tmp_path: Path) -> None:
    settings = config(stage, tmp_path, tier, bf16={"enabled": True})
    settings["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True
    with engine_of(settings) as engine:
        train(engine, 1)
        assert engine.zero_gather_16bit_weights_on_model_save()
        assert engine.save_16bit_model(tmp_path / "out") and engine.save_fp16_model(tmp_path / "out", "old.bin")
        expected = {name: engine.read_plane(name, "param") for name in ("first.weight", "second.weight", "scale")}
        trained = engine.module_state_dict(exclude_frozen_parameters=True)
        if stage == 3:
            assert engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=True).keys() == trained.keys()
        else:
            with pytest.raises(ValueError, match="on stage"):
                engine._zero3_consolidated_16bit_state_dict()
    assert Model().state_dict().keys() - trained.keys() == {"base.weight", "base.bias"}
    for name in ("pytorch_model.bin", "old.bin"):
        state = torch.load(tmp_path / "out" / name)
        assert state.keys() == Model().state_dict().keys()
        assert all(torch.equal(state[key].float(), value) for key, value in expected.items())
        assert state["first.weight"].dtype == torch.bfloat16
        assert state["again.weight"].data_ptr() == state["second.weight"].data_ptr()


def test_weights_that_are_not_gathered_are_not_saved(tmp_path: Path) -> None:
    lines: list[str] = []
    deepspeed.utils.logger.addFilter(lambda record: not lines.append(record.getMessage()))
    with engine_of(config(3, tmp_path)) as engine:
        assert not engine.zero_gather_16bit_weights_on_model_save()
        assert engine.save_16bit_model(tmp_path / "out") is False
    deepspeed.utils.logger.filters.clear()
    assert not (tmp_path / "out").exists()
    assert any('"stage3_gather_16bit_weights_on_model_save": true' in line for line in lines)


# ---- deepspeed.checkpoint ----


def test_clones_have_memory_of_their_own_size() -> None:
    whole = torch.arange(100)
    cloned = clone_tensors_for_torch_save({"a": [whole[:3], (whole[5], "text")], "b": 7})
    assert cloned["a"][0].untyped_storage().nbytes() == 24
    assert torch.equal(cloned["a"][0], whole[:3]) and cloned["a"][1] == (torch.tensor(5), "text") and cloned["b"] == 7


def test_names_that_programs_import() -> None:
    assert get_model_ckpt_name_for_rank("folder", "00") == os.path.join("folder", "mp_rank_00_model_states.pt")
    assert isinstance(deepspeed.checkpoint.UNIVERSAL_CHECKPOINT_INFO, str)
    from deepspeed.checkpoint.ds_to_universal import main

    with pytest.raises(NotImplementedError, match="orlop export"):
        main()
