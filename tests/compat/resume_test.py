"""Training that goes on from a checkpoint, in another engine or process, equals training that was never interrupted."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import deepspeed
import pytest
import torch
from saving import PRECISIONS, TIERS, config, engine_of, everything, tiny_llama, train
from transformers import Trainer, TrainerCallback, TrainingArguments

STAGES_OF = {"none": (0, 1, 2, 3), "cpu": (1, 2, 3), "nvme": (1, 2, 3), "all on nvme": (3,)}


def settings(stage: int, folder: Path, tier: str, precision: str) -> dict[str, Any]:
    return config(stage, folder, tier, gradient_accumulation_steps=2, **PRECISIONS[precision])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("tier", "stage"), [(tier, stage) for tier in TIERS for stage in STAGES_OF[tier]])
def test_resumed_training_equals_uninterrupted(stage: int, tier: str, precision: str, tmp_path: Path) -> None:
    chosen = settings(stage, tmp_path, tier, precision)
    with engine_of(chosen) as engine:
        losses = train(engine, 6)
        expected = everything(engine)
        assert (engine.skipped_steps > 0) == (precision == "fp16")
    with engine_of(chosen) as engine:
        train(engine, 3)
        assert engine.save_checkpoint(tmp_path / "saved", client_state={"note": 3})
        train(engine, 1)
    with engine_of(chosen, seed=6) as engine:
        path, client = engine.load_checkpoint(tmp_path / "saved")
        assert path is not None and Path(path).is_file() and client == {"note": 3}
        assert train(engine, 3) == losses[6:]
        assert everything(engine) == expected


@pytest.mark.parametrize("seed", range(4))
def test_any_stage_and_tier_loads_what_another_saved(seed: int, tmp_path: Path) -> None:
    places = [(tier, stage) for tier in TIERS for stage in STAGES_OF[tier]]
    pairs = list(itertools.product(places, places))
    (saved_tier, saved_stage), (tier, stage) = pairs[(37 * seed + 11) % len(pairs)]
    with engine_of(settings(saved_stage, tmp_path, saved_tier, "bf16")) as engine:
        train(engine, 2)
        engine.save_checkpoint(tmp_path / "saved")
        losses = train(engine, 2)
        expected = everything(engine)
    with engine_of(settings(stage, tmp_path, tier, "bf16")) as engine:
        engine.load_checkpoint(tmp_path / "saved")
        assert train(engine, 2) == losses
        assert everything(engine) == expected


PROGRAM = """
import pathlib, sys
sys.path[:0] = [sys.argv[2]]
import conftest
from resume_test import settings
from saving import engine_of, everything, train
folder = pathlib.Path(sys.argv[1])
with engine_of(settings(3, folder, sys.argv[3], sys.argv[4])) as engine:
    engine.load_checkpoint(folder / "saved")
    train(engine, 2)
    print(repr(everything(engine)))
"""


@pytest.mark.parametrize(("tier", "precision"), [("cpu", "bf16"), ("all on nvme", "fp16")])
def test_another_process_goes_on(tier: str, precision: str, tmp_path: Path) -> None:
    with engine_of(settings(3, tmp_path, tier, precision)) as engine:
        train(engine, 2)
        engine.save_checkpoint(tmp_path / "saved")
        train(engine, 2)
        expected = repr(everything(engine))
    arguments = [sys.executable, "-c", PROGRAM, str(tmp_path), str(Path(__file__).parent), tier, precision]
    done = subprocess.run(arguments, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == expected


# ---- Hugging Face's Trainer ----


class StopAt(TrainerCallback):  # type: ignore[misc]
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = state.global_step == self.step


def trainer_of(folder: Path, stage: int, tier: str, **changes: Any) -> Any:
    deepspeed.init_distributed()
    torch.manual_seed(3)
    chosen = config(stage, folder / "nvme", tier, bf16={"enabled": "auto"})
    for key in ("optimizer", "gradient_clipping"):
        del chosen[key]
    chosen["train_micro_batch_size_per_gpu"] = "auto"
    chosen["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = True
    arguments = TrainingArguments(
        folder / "out",
        deepspeed=chosen,
        max_steps=6,
        per_device_train_batch_size=2,
        learning_rate=1e-3,
        bf16=True,
        use_cpu=True,
        report_to=[],
        logging_steps=1,
        disable_tqdm=True,
        **{"save_strategy": "steps", "save_steps": 2} | changes,
    )
    tokens = torch.arange(16 * 8).reshape(16, 8) % 250
    rows = [{"input_ids": row, "labels": row} for row in tokens]
    return Trainer(tiny_llama(), arguments, train_dataset=rows)


def weights_of(trainer: Any) -> dict[str, Any]:
    state: dict[str, Any] = trainer.model_wrapped.module_state_dict()
    return state


@pytest.mark.parametrize(("stage", "tier"), [(2, "cpu"), (3, "none"), (3, "all on nvme")])
def test_the_trainer_resumes(stage: int, tier: str, tmp_path: Path) -> None:
    whole = trainer_of(tmp_path, stage, tier, save_strategy="no")
    whole.train()
    expected = weights_of(whole)
    interrupted = trainer_of(tmp_path, stage, tier, save_total_limit=2)
    interrupted.add_callback(StopAt(5))
    interrupted.train()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["checkpoint-2", "checkpoint-4"]
    resumed = trainer_of(tmp_path, stage, tier)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 6
    found = weights_of(resumed)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("tier", ["none", "all on nvme"])
def test_what_the_trainer_saves_loads_without_us(tier: str, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, 3, tier, save_strategy="no")
    trainer.train()
    expected = weights_of(trainer)
    trainer.save_model(tmp_path / "saved")
    torch.save(expected, tmp_path / "expected.bin")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_US, str(tmp_path)],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "equal"


WITHOUT_US = """
import pathlib, sys, torch
from transformers import AutoModelForCausalLM
folder = pathlib.Path(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(folder / "saved", dtype=torch.bfloat16)
expected = torch.load(folder / "expected.bin")
state = model.state_dict()
assert "orlop" not in sys.modules and "deepspeed" not in sys.modules
assert state.keys() == expected.keys()
assert all(torch.equal(state[name], value) for name, value in expected.items())
print("equal")
"""
