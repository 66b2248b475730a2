"""fp32 weights out of checkpoints: the masters, every name of a tied tensor, frozen parameters and buffers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from deepspeed.utils.zero_to_fp32 import (
    convert_zero_checkpoint_to_fp32_state_dict,
    get_fp32_state_dict_from_zero_checkpoint,
    load_state_dict_from_zero_checkpoint,
)
from orlop.compat.fp32_weights import bytes_of
from saving import PRECISIONS, TIERS, Model, config, engine_of, train
from torch import Tensor


def saved(folder: Path, stage: int = 3, tier: str = "none", precision: str = "bf16") -> dict[str, Tensor]:
    """Saves a checkpoint after two updates; returns its masters, and whatever else the module's state has."""
    with engine_of(config(stage, folder / "nvme", tier, **PRECISIONS[precision])) as engine:
        train(engine, 2)
        assert engine.save_checkpoint(folder / "c")
        state = engine.module_state_dict()
        state |= {p.name: engine.read_plane(p.name, "param" if p.is_frozen else "master") for p in engine._registered}
    return state | {"again.weight": state["second.weight"]}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name
        assert tensor.dtype == (torch.int64 if name.endswith("tracked") else torch.float32), name


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("tier", "stage"), [("none", 0), ("cpu", 1), ("none", 2), ("nvme", 3), ("all on nvme", 3)])
def test_the_masters_come_out(stage: int, tier: str, precision: str, tmp_path: Path) -> None:
    assert tier in TIERS
    expected = saved(tmp_path, stage, tier, precision)
    found = get_fp32_state_dict_from_zero_checkpoint(tmp_path / "c")
    assert_same(found, expected)
    assert found["again.weight"] is found["second.weight"]
    assert any(not torch.equal(value, value.bfloat16().float()) for value in found.values() if value.ndim == 2)
    again = get_fp32_state_dict_from_zero_checkpoint(tmp_path / "c", tag="global_step2", lazy_mode=True)
    assert again["first.weight"].shape == (24, 12) and not isinstance(again["first.weight"], Tensor)
    assert_same({name: value.contiguous() for name, value in again.items()}, expected)
    trained = get_fp32_state_dict_from_zero_checkpoint(tmp_path / "c", exclude_frozen_parameters=True)
    assert expected.keys() - trained.keys() == {"base.weight", "base.bias"}


def test_a_model_takes_them(tmp_path: Path) -> None:
    expected = saved(tmp_path)
    model = Model()
    assert load_state_dict_from_zero_checkpoint(model, tmp_path / "c") is model
    assert_same(model.state_dict(), expected)


@pytest.mark.parametrize("tier", ["none", "all on nvme"])
def test_a_model_that_an_engine_trains_takes_them_too(tier: str, tmp_path: Path) -> None:
    expected = saved(tmp_path, 3, tier)
    with engine_of(config(3, tmp_path / "other", tier, bf16={"enabled": True}), seed=8) as engine:
        load_state_dict_from_zero_checkpoint(engine.module, tmp_path / "c")
        found = engine.module_state_dict()
        train(engine, 1)
    assert all(torch.equal(found[name], value.to(found[name].dtype)) for name, value in expected.items())


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("limit", ["5GB", "3KB"])
def test_files_hold_them(safe: bool, limit: str, tmp_path: Path) -> None:
    expected = saved(tmp_path)
    out = tmp_path / "out"
    convert_zero_checkpoint_to_fp32_state_dict(tmp_path / "c", out, max_shard_size=limit, safe_serialization=safe)
    name = "model.safetensors" if safe else "pytorch_model.bin"
    files = [out / name]
    if limit == "3KB":
        index = json.loads((out / f"{name}.index.json").read_text())["weight_map"]
        assert index.keys() == expected.keys()
        files = [out / file for file in sorted(set(index.values()))]
        assert len(files) > 1 and all(file.name.endswith(f"-of-{len(files):05d}{Path(name).suffix}") for file in files)
    found: dict[str, Tensor] = {}
    for file in files:
        found |= load(file)
    assert_same(found, expected)


def load(file: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    state: dict[str, Tensor] = load_file(file) if file.suffix == ".safetensors" else torch.load(file)
    return state


def test_the_script_beside_the_checkpoint_needs_no_deepspeed(tmp_path: Path) -> None:
    expected = saved(tmp_path)
    package = Path(sys.modules["orlop"].__file__ or "").parents[1]
    environment = os.environ | {"PYTHONPATH": str(package)}
    command = [sys.executable, "zero_to_fp32.py", ".", "out", "--safe_serialization", "-t", "global_step2"]
    done = subprocess.run(command, cwd=tmp_path / "c", env=environment, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert_same(load(tmp_path / "c" / "out" / "model.safetensors"), expected)
    failed = subprocess.run(
        [sys.executable, "zero_to_fp32.py", "nowhere", "out"],
        **{"cwd": tmp_path / "c", "env": environment, "text": True, "capture_output": True, "timeout": 60},
    )
    assert failed.returncode == 1 and failed.stderr.startswith("zero_to_fp32: export: on nowhere: it is no checkpoint")


def test_sizes_of_files() -> None:
    assert [bytes_of(size) for size in ("5GB", "10 MiB", 7, "8KB", "9")] == [5 * 10**9, 10 << 20, 7, 8000, 9]
    for wrong in ("", "GB", "-5GB", "0", "5 apples"):
        with pytest.raises(ValueError, match="max_shard_size"):
            bytes_of(wrong)
