"""What Hugging Face's Trainer saves: runs go on from it exactly, other programs read it, the disk stays as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hf_runs import STEPS, Case, build, close, ds_config, same, trainer_of, weights_of
from torch import Tensor

PLACES = [
    Case(place=(2, "none", "none"), precision="fp32"),
    Case(place=(2, "cpu", "none"), precision="bf16", model="llama", blocks="both"),
    Case(place=(1, "nvme", "none"), precision="fp16", blocks="optimizer"),
    Case(place=(3, "cpu", "cpu"), precision="fp32", model="t5", accumulation=2),
    Case(place=(3, "nvme", "nvme"), precision="bf16", model="llama", is_auto=False),
    Case(place=(3, "nvme", "nvme"), precision="bf16", model="gpt2", lora=True, is_auto=False),
    Case(place=(3, "cpu", "nvme"), precision="fp16 static", model="mixtral", blocks="both", is_auto=False),
]


@pytest.mark.parametrize("case", PLACES, ids=str)
def test_a_resumed_run_equals_one_that_was_never_interrupted(case: Case, tmp_path: Path) -> None:
    whole = trainer_of(case, tmp_path, save_strategy="steps", save_steps=8)
    whole.train()
    close(whole)
    resumed = trainer_of(case, tmp_path, save_strategy="steps", save_steps=8)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-8"))
    assert resumed.model_wrapped.global_steps == STEPS
    close(resumed)
    assert resumed.losses == whole.losses[8 * case.accumulation :]
    assert same(weights_of(resumed.model), weights_of(whole.model))


def test_a_run_goes_on_where_the_latest_checkpoint_was(tmp_path: Path) -> None:
    case = Case(place=(3, "nvme", "nvme"), is_auto=False)
    whole = trainer_of(case, tmp_path)
    whole.train()
    close(whole)
    first = trainer_of(case, tmp_path, save_strategy="steps", save_steps=6)
    first.add_callback(StopAt(12))
    first.train()
    close(first)
    second = trainer_of(case, tmp_path, save_strategy="steps", save_steps=6)
    second.train(resume_from_checkpoint=True)
    close(second)
    assert first.losses + second.losses == whole.losses
    assert same(weights_of(second.model), weights_of(whole.model))


def StopAt(step: int) -> Any:
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = state.global_step >= step

    return Stop()


def test_another_stage_loads_what_was_saved(tmp_path: Path) -> None:
    saved = Case(place=(2, "none", "none"))
    first = trainer_of(saved, tmp_path, save_strategy="steps", save_steps=10)
    first.train()
    close(first)
    loaded = Case(place=(3, "nvme", "nvme"), is_auto=False)
    second = trainer_of(loaded, tmp_path, save_strategy="no")
    second.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-10"))
    close(second)
    assert second.losses == first.losses[10:]
    assert same(weights_of(second.model), weights_of(first.model))


# ---- Read by others ----

READER = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
for folder in sys.argv[1:]:
    kind = AutoModelForSeq2SeqLM if "t5" in folder else AutoModelForCausalLM
    model, report = kind.from_pretrained(folder, dtype="auto", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"], report
    torch.save(dict(model.named_parameters()), folder + "/read.pt")
assert "deepspeed" not in sys.modules and "orlop" not in sys.modules
"""


def read_without_us(*folders: Path) -> list[dict[str, Tensor]]:
    """Parameters as from_pretrained gives them in a process that does not know of Orlop."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", READER, *map(str, folders)]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / "read.pt") for folder in folders]


def test_saved_models_are_read_without_us(tmp_path: Path) -> None:
    cases = [case for case in PLACES if not case.lora]
    folders, trained = [], []
    for number, case in enumerate(cases):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        trainer = trainer_of(case, folder)
        trainer.train()
        trainer.save_model()
        close(trainer)
        folders.append((folder / "out").rename(tmp_path / f"{number}-{case.model}"))
        trained.append(weights_of(trainer.model))
    for case, read, weights in zip(cases, read_without_us(*folders), trained, strict=True):
        assert same(read, weights), str(case)


@pytest.mark.parametrize("case", [case for case in PLACES if case.lora], ids=str)
def test_saved_adapters_are_read_by_peft(case: Case, tmp_path: Path) -> None:
    from peft import PeftModel

    trainer = trainer_of(case, tmp_path, max_steps=3)
    trainer.train()
    trainer.save_model()
    close(trainer)
    read = PeftModel.from_pretrained(build(case.model).to(torch.bfloat16), str(tmp_path / "out"))
    trained = {name: value for name, value in weights_of(trainer.model).items() if "lora" in name}
    assert any(value.count_nonzero() for name, value in trained.items() if "lora_B" in name)
    found = weights_of(read)
    assert all(torch.equal(found[name].to(value.dtype), value) for name, value in trained.items())


def test_without_gathering_the_weights_are_recovered_from_the_checkpoint(tmp_path: Path) -> None:
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    case = Case(place=(3, "cpu", "none"), precision="bf16", model="llama", is_auto=False)
    config = ds_config(case)
    config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] = False
    trainer = trainer_of(case, tmp_path, config=config, max_steps=3)
    trainer.train()
    trainer.save_model()
    close(trainer)
    out = tmp_path / "out"
    assert not list(out.glob("*.safetensors")) and (out / "zero_to_fp32.py").exists()
    recovered = get_fp32_state_dict_from_zero_checkpoint(str(out))
    for name, weight in weights_of(trainer.model).items():
        assert torch.equal(recovered[name].to(torch.bfloat16), weight), name


# ---- The disk ----


def used(folder: Path) -> int:
    """Bytes that files below a folder take, each counted once."""
    files = {path.stat().st_ino: path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()}
    return sum(files.values())


@pytest.mark.parametrize("place", [(2, "cpu", "none"), (3, "nvme", "nvme")], ids=str)
def test_ten_saves_of_which_two_are_kept_do_not_fill_the_disk(place: Any, tmp_path: Path) -> None:
    from transformers import TrainerCallback

    seen: list[int] = []

    class Watch(TrainerCallback):
        def on_save(self, *_: Any, **__: Any) -> None:
            seen.append(used(tmp_path))

    case = Case(place=place, precision="bf16", model="llama", is_auto=False)
    trainer = trainer_of(case, tmp_path, save_strategy="steps", save_steps=2, save_total_limit=2)
    trainer.add_callback(Watch())
    trainer.train()
    close(trainer)
    assert len(seen) == 10
    assert sorted(path.name for path in (tmp_path / "out").glob("checkpoint-*")) == ["checkpoint-18", "checkpoint-20"]
    assert max(seen[3:]) <= seen[2] + (64 << 10), seen  # trainer_state.json has a line per update
