"""The flops profiler, its block of the configuration, and DEEPSPEED_PROFILE."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import deepspeed
import pytest
import torch
from deepspeed.profiling.flops_profiler import FlopsProfiler, get_model_profile
from torch import Tensor, nn

LAYER = 2 * 8 * 16 * 32  # operations of one Linear(16, 32) with a batch of 8


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16)) for _ in range(2))
        self.head = nn.Linear(16, 1)

    def forward(self, x: Tensor, times: int = 1) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x) * times


HEAD = 2 * 8 * 16
PARAMETERS = 2 * (16 * 32 + 32 + 32 * 16 + 16) + 17


def test_get_model_profile_counts_exactly() -> None:
    flops, macs, params = get_model_profile(Model(), input_shape=(8, 16), print_profile=False, as_string=False)
    assert flops == 4 * LAYER + HEAD and macs == flops // 2 and params == PARAMETERS


def test_as_text_the_numbers_have_units(capsys: pytest.CaptureFixture[str]) -> None:
    flops, macs, params = get_model_profile(Model(), args=[torch.ones(8, 16)], kwargs={"times": 2})
    assert (flops, macs, params) == ("33 KFLOPS", "16.5 KMACs", "2.16 K")
    printed = capsys.readouterr().out
    assert "blocks" in printed and "Linear" in printed and "49.6 %" in printed


def test_modules_can_be_left_out() -> None:
    flops, _, _ = get_model_profile(
        Model(), input_shape=(8, 16), print_profile=False, as_string=False, ignore_modules=[nn.Sequential]
    )
    assert flops == HEAD


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="sideways"):
        get_model_profile(Model(), input_shape=(8, 16), mode="sideways")


def test_a_profiler_counts_between_start_and_stop(tmp_path: Path) -> None:
    model = Model()
    profiler = FlopsProfiler(model)
    model(torch.ones(8, 16))
    profiler.start_profile()
    model(torch.ones(8, 16))
    profiler.stop_profile()
    model(torch.ones(8, 16))
    assert profiler.get_total_flops() == 4 * LAYER + HEAD
    assert profiler.get_total_macs(as_string=True) == "16.5 KMACs"
    assert profiler.get_total_params() == PARAMETERS
    assert profiler.get_total_duration() > 0 and profiler.get_total_duration(as_string=True).endswith(" ms")
    profiler.print_model_profile(profile_step=3, module_depth=1, output_file=str(tmp_path / "profile.txt"))
    text = (tmp_path / "profile.txt").read_text()
    assert "flops at step 3" in text and "head" in text and "depth 2" not in text
    profiler.end_profile()
    assert profiler.get_total_flops() == 0


def config(**changes: Any) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": 8,
        "gradient_accumulation_steps": 2,
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}},
    } | changes


def train(updates: int, **changes: Any) -> None:
    model = Model()
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config(**changes))
    with torch.no_grad():
        engine(torch.ones(8, 16))  # an evaluation is not what is profiled
    for _ in range(2 * updates):
        engine.backward(engine(torch.ones(8, 16)).sum())
        engine.step()
    engine.destroy()


@pytest.mark.parametrize("zero", [{}, {"stage": 3}])
def test_the_block_prints_the_asked_for_update_once(zero: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    train(4, zero_optimization=zero, flops_profiler={"enabled": True, "profile_step": 2, "top_modules": 2})
    printed = capsys.readouterr().out
    assert printed.count("flops of update") == 1 and "flops of update 2" in printed
    assert "forward 33 KFLOP (16.5 KMAC)" in printed
    assert "backward 57.9 KFLOP" in printed, "twice the forward's, but for the first layer's input"
    assert "depth 1: ModuleList 32.8 KFLOP, Linear 256 FLOP" in printed


def test_the_block_writes_to_a_file_and_leaves_out_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "flops.txt"
    block = {"enabled": True, "profile_step": 1, "module_depth": 1, "detailed": False, "output_file": str(file)}
    train(1, flops_profiler=block)
    text = file.read_text()
    assert "depth 1" in text and "depth 2" not in text and "MODULE" not in text
    assert "flops of update" not in capsys.readouterr().out


def test_the_environment_asks_for_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPSPEED_PROFILE", "1")
    train(3)
    profile = json.loads((tmp_path / "deepspeed_profile.json").read_text())
    assert len(profile["steps"]) == 3
    assert set(profile["phases"]) == {"forward", "backward", "update", "checkpoint", "outside"}
