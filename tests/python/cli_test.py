"""The `orlop` command, as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orlop
import pytest
import torch
from conftest import TwoLayers, config, offload, tiny_llama, train
from orlop.cli.main import main
from torch import nn


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def saved(tmp_path: Path, model: nn.Module | None = None, **changes: Any) -> tuple[Path, int]:
    """A checkpoint of a run with its states on NVMe, and its digest."""
    (tmp_path / "nvme").mkdir(exist_ok=True)
    settings = config(zero_optimization=offload("nvme", tmp_path / "nvme"), **changes)
    with orlop.initialize(model=model or TwoLayers(), config=settings)[0] as engine:
        if model is None:
            train(engine, 2)
        engine.save_checkpoint(tmp_path / "checkpoints", tag="two")
        return tmp_path / "checkpoints" / "two", engine.digest()


def test_ls_and_gc_know_what_is_kept_and_what_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, _ = saved(tmp_path)
    status, out, _ = run(capsys, "ls", tmp_path / "nvme", tmp_path / "checkpoints")
    assert status == 0
    assert str(checkpoint) in out and "nobody" in out and "two" in out and "latest" in out
    assert "0 B could be given back" in run(capsys, "gc", "--dry-run", tmp_path / "nvme")[1]
    for path in checkpoint.iterdir():
        path.unlink()
    checkpoint.rmdir()
    assert "(gone)" in run(capsys, "ls", tmp_path / "nvme")[1]
    assert "KiB were given back" in run(capsys, "gc", tmp_path / "nvme")[1]
    assert [path for path in (tmp_path / "nvme").rglob("*") if path.is_file()] == []
    status, _, error = run(capsys, "ls", tmp_path / "nvme")
    assert status == 1 and error.startswith("orlop: ls: on ") and len(error.splitlines()) == 1


def test_a_run_in_use_is_named_and_left_alone(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = config(zero_optimization=offload("nvme", store))
    with orlop.initialize(model=TwoLayers(), config=settings)[0] as engine:
        train(engine, 1)
        assert "process " in run(capsys, "ls", store)[1]
        assert "0 B were given back" in run(capsys, "gc", store)[1]
        train(engine, 1)


def test_verify_finds_a_flipped_byte_in_the_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, _ = saved(tmp_path)
    status, out, _ = run(capsys, "verify", tmp_path / "checkpoints")
    assert status == 0 and f"{checkpoint}: sound, " in out and "GB/s" in out
    (file,) = (tmp_path / "nvme").rglob("*.store")
    content = bytearray(file.read_bytes())
    begin = 256 * 1024
    position = next(i for i in range(begin, len(content)) if content[i])
    content[position] ^= 1
    file.write_bytes(content)
    status, out, _ = run(capsys, "verify", checkpoint)
    assert status == 1 and "NOT sound" in out and str(file) in out


def test_an_exported_checkpoint_stands_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, digest = saved(tmp_path)
    assert run(capsys, "export", "--full", checkpoint, tmp_path / "whole")[0] == 0
    for file in (tmp_path / "nvme").rglob("*.store"):
        file.unlink()
    with orlop.initialize(model=TwoLayers(), config=config())[0] as engine:
        with pytest.raises(orlop.NotFoundError, match="orlop export"):
            engine.load_checkpoint(tmp_path / "checkpoints")
        engine.load_checkpoint(tmp_path, tag="whole")
        assert engine.digest() == digest


@pytest.mark.parametrize("dtype", [None, "fp32", "fp16"])
def test_exported_weights_are_read_by_transformers(
    dtype: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM

    model = tiny_llama()
    checkpoint, _ = saved(tmp_path, model, bf16={"enabled": True})
    arguments = ["--dtype", dtype] if dtype else []
    status, out, _ = run(capsys, "export", checkpoint, tmp_path / "weights", *arguments)
    assert status == 0 and "1 file" in out
    model.config.save_pretrained(tmp_path / "weights")
    wanted = {None: torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}[dtype]
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "weights", dtype=wanted)
    expected = model.state_dict()
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == wanted and torch.equal(tensor, expected[name].to(wanted)), name


def test_exported_fp32_weights_are_the_masters_and_buffers_come_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file

    model = nn.Sequential(nn.Linear(3, 700), nn.BatchNorm1d(700, affine=False), nn.Linear(700, 1))
    with orlop.initialize(model=model, config=config(bf16={"enabled": True}))[0] as engine:
        for _ in range(2):
            hidden = model[0](torch.randn(8, 3, dtype=torch.bfloat16)).float()
            engine.backward(model[2](model[1](hidden).bfloat16()).float().square().mean())
            engine.step()
        engine.save_checkpoint(tmp_path)
        masters = {name: engine.read_plane(name, "master") for name, _ in model.named_parameters()}
    assert run(capsys, "export", tmp_path, tmp_path / "weights", "--dtype", "fp32")[0] == 0
    found = load_file(tmp_path / "weights" / "model.safetensors")
    assert all(torch.equal(found[name], master) for name, master in masters.items())
    assert torch.equal(found["1.running_mean"], model[1].running_mean)
    assert torch.equal(found["1.num_batches_tracked"], model[1].num_batches_tracked)


def test_a_large_model_is_cut_into_files_with_an_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from orlop.cli import export
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(export, "_FILE_BYTES", 100_000)
    model = tiny_llama()
    checkpoint, _ = saved(tmp_path, model)
    assert run(capsys, "export", checkpoint, tmp_path / "weights")[0] == 0
    assert len(list((tmp_path / "weights").glob("model-*-of-*.safetensors"))) > 2
    model.config.save_pretrained(tmp_path / "weights")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "weights", dtype=torch.float32)
    expected = model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


def test_export_writes_over_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, _ = saved(tmp_path)
    for arguments in ([], ["--full"]):
        status, _, error = run(capsys, "export", checkpoint, tmp_path / "nvme", *arguments)
        assert status == 1 and "not empty" in error
    assert run(capsys, "export", tmp_path / "nothing", tmp_path / "x")[0] == 1


@pytest.mark.parametrize("precision", [{}, {"bf16": {"enabled": True}}, {"fp16": {"enabled": True}}])
def test_a_plan_is_what_is_then_allocated(precision: dict[str, Any], store: Path) -> None:
    from orlop.cli.plan import plan_of

    for settings in (
        config(**precision),
        config(zero_optimization=offload("nvme", store), **precision),
        config(zero_optimization=offload("nvme", store), gradient_accumulation_steps=2, **precision),
    ):
        model = tiny_llama()
        if precision:
            model = model.to(torch.bfloat16 if "bf16" in precision else torch.float16)
        plan = plan_of(model, orlop.Config(settings))
        with orlop.initialize(model=model, config=settings)[0] as engine:
            stats = engine.stats()
        assert {
            name: plan[name] for name in ("params", "host_bytes", "model_bytes", "staging_bytes", "nvme_bytes")
        } == {name: stats[name] for name in ("params", "host_bytes", "model_bytes", "staging_bytes", "nvme_bytes")}


def test_plans_of_models_that_fit_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ds.json"
    file.write_text(json.dumps(config(bf16={"enabled": True}, zero_optimization=offload("nvme", tmp_path))))
    status, out, _ = run(capsys, "plan", "--params", "70B", "--config", file, "--json")
    plan = json.loads(out)
    assert status == 0 and 6.5e10 < plan["params"] < 7.5e10
    assert 10 <= plan["nvme_bytes"] / plan["params"] < 10.2 and 4 <= plan["host_bytes"] / plan["params"] < 4.1
    tiny_llama().config.save_pretrained(tmp_path)
    status, out, _ = run(capsys, "plan", "--model", tmp_path)
    assert status == 0 and "float32" in out and "parameters in" in out
    assert run(capsys, "plan", "--params", "many")[0] == 1


def test_verify_train_compares_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ds.json"
    settings = config(
        bf16={"enabled": True}, zero_optimization=offload("nvme", Path("/no/such")), gradient_accumulation_steps=2
    )
    file.write_text(json.dumps(settings))
    status, out, _ = run(capsys, "verify", "--train", file, "--steps", "2")
    assert status == 0 and "update 2: " in out and "the same bits" in out
    assert run(capsys, "verify")[0] == 1


def test_doctor_lists_the_machine_and_measures_a_drive(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "doctor", "--nvme_path", store)
    assert status in (0, 1)
    for part in ("processor", "memory", "I/O queues", "GPU", f"drive {store}", "GB/s", "aligned to"):
        assert part in out
    assert out.count("problem: ") == out.count("    fix: ")
    status, out, _ = run(capsys, "doctor", "--nvme_path", store / "missing")
    assert status == 1 and "mkdir -p" in out


def test_run_starts_a_script_as_a_launcher_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "train.py"
    script.write_text("import os, sys\nprint(os.environ['RANK'], os.environ['WORLD_SIZE'], sys.argv[1:], __name__)\n")
    set_by_launchers = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in os.environ.items() if name not in set_by_launchers}
    words = [sys.executable, "-m", "orlop", "run", script, "--lr", "1"]
    assert subprocess.check_output(words, text=True, env=kept) == "0 1 ['--lr', '1'] __main__\n"
    assert run(capsys, "run", tmp_path / "none.py")[0] == 1
