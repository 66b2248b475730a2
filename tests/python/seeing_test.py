"""What one sees of training: lines, profiles, monitors, the report."""

from __future__ import annotations

import csv
import json
import re
import sys
import types
from pathlib import Path
from typing import Any

import orlop
import pytest
import torch
from conftest import TwoLayers, batches, config, offload, train
from orlop._progress import Progress
from orlop.cli.main import main
from torch import Tensor, nn


def start(**changes: Any) -> orlop.Engine:
    return orlop.initialize(model=TwoLayers(), config=config(train_micro_batch_size_per_gpu=8, **changes))[0]


def test_steps_per_print_says_when(capsys: pytest.CaptureFixture[str]) -> None:
    with start(steps_per_print=2) as engine:
        train(engine, 5)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["step 2", "step 4"]
    number = r"[\d.e+-]+"
    assert re.fullmatch(
        rf"step 2: loss {number}, lr 0\.01, gradient norm {number}, {number} s, {number} samples/s, "
        r"memory host [\d.]+ MiB",
        lines[0],
    )
    with start(steps_per_print=float("inf")) as engine:
        train(engine, 3)
    with start() as engine:
        train(engine, 12)
    assert capsys.readouterr().out == ""


def test_a_line_says_what_drives_and_tiers_do(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with start(
        steps_per_print=3,
        fp16={"enabled": True, "loss_scale": 4, "auto_cast": True},
        zero_optimization=offload("nvme", store),
        orlop={"memory": {"host": "1GiB", "pinned": 0}},
    ) as engine:
        train(engine, 3)
    (line,) = capsys.readouterr().out.splitlines()
    parts = line.split(", ")
    assert "loss scale 4" in parts
    assert re.search(r", I/O hidden [\d.]+ exposed [\d.]+ s, ", line)
    assert re.search(rf", {re.escape(str(store))} [\d.]+ GB/s, ", line)
    assert re.fullmatch(r"memory host [\d.]+ MiB of 1 GiB NVMe [\d.]+ [KM]iB", parts[-1])


def test_memory_breakdown_says_what_the_host_has(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with start(memory_breakdown=True, zero_optimization=offload("nvme", store)) as engine:
        train(engine, 10)
    (line,) = capsys.readouterr().out.splitlines()
    of_the_host = r"memory \(host [^:]+: parameters and gradients [\d.]+ KiB, units 0 B, staging [\d.]+ [KM]iB;"
    assert re.search(of_the_host + r" NVMe [\d.]+ [KM]iB\)$", line)


class Embeds(nn.Module):
    """A model of language, as far as its inputs go."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)

    def forward(self, input_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.table(input_ids).square().mean() + (0 if mask is None else mask.sum() * 0)


def test_rates_are_over_all_updates_of_a_line() -> None:
    ids, mask = torch.zeros(2, 5, dtype=torch.long), torch.ones(2, 5)
    with start(steps_per_print=2) as engine:
        train(engine, 1)
        progress = Progress(engine._config)
        for args, kwargs in (((ids, mask), {}), ((), {"mask": mask, "input_ids": ids}), (({"input_ids": ids},), {})):
            progress.note_inputs(Embeds(), args, kwargs)
            progress.end_update(engine, 0.5, {})
        assert ", 0.50 s, 20 tokens/s, " in progress.line(engine, 1.0)
        progress = Progress(engine._config)
        progress.note_inputs(nn.Linear(3, 3), (torch.ones(6, 3),), {})
        progress.end_update(engine, 2.0, {})
        assert ", 2.00 s, 3 samples/s, " in progress.line(engine, 1.0)


def test_tokens_of_passes_that_are_not_trained_with_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    ids = torch.zeros(2, 5, dtype=torch.long)
    engine = orlop.initialize(model=Embeds(), config=config(steps_per_print=1, gradient_accumulation_steps=2))[0]
    with engine:
        for _ in range(2):
            with torch.no_grad():
                engine(ids)
            engine.backward(engine(ids))
            assert capsys.readouterr().out == ""
            counted = engine._timeline._progress._tokens
            engine.step()
    assert counted == 20 and "tokens/s" in capsys.readouterr().out


def test_inputs_that_are_none_of_the_known_ones_count_as_what_the_configuration_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine = start(steps_per_print=1)
    with engine:
        engine.backward(engine.module(batches(1)[0][0]).square().mean())  # past the engine
        engine.step()
    assert "samples/s" in capsys.readouterr().out


def test_time_that_modules_waited_for_parameters_is_exposed(store: Path) -> None:
    everything_is_fetched = {"stage3_param_persistence_threshold": 0, "stage3_max_live_parameters": 0}
    settings = offload("nvme", store) | {"offload_param": {"device": "nvme"}} | everything_is_fetched
    with start(zero_optimization=settings) as engine:
        train(engine, 2)
        report, stats = engine.last_report, engine.stats()
    assert report.unit_wait_seconds > 0 and report.unit_copy_seconds > 0
    assert report.waited_io_seconds == report.exposed_io_seconds + report.unit_wait_seconds
    assert stats["unit_wait_seconds"] > report.unit_wait_seconds


def test_wall_clock_breakdown_says_where_the_time_went(capsys: pytest.CaptureFixture[str]) -> None:
    with start(wall_clock_breakdown=True) as engine:
        train(engine, 10)
    (line,) = capsys.readouterr().out.splitlines()
    seconds = float(re.search(r"([\d.]+) s \(", line)[1])  # type: ignore[index]
    parts = re.findall(r"(forward|backward|update|checkpoint|outside) ([\d.]+)", line)
    assert len(parts) == 5 and sum(float(part) for _, part in parts) == pytest.approx(seconds, abs=0.02)


def test_a_profiles_phases_add_up_to_its_wall_time(store: Path, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "profile.json"
    with start(
        orlop={"profile": str(file)}, zero_optimization=offload("nvme", store), gradient_accumulation_steps=2
    ) as engine:
        train(engine, 6)
        for _ in range(2):
            engine.save_checkpoint(tmp_path / "checkpoints", tag="a")
        train(engine, 1)
        for path in (tmp_path / "checkpoints" / "a").iterdir():
            path.unlink()
    profile = json.loads(file.read_text())
    assert sum(profile["phases"].values()) == pytest.approx(profile["wall_seconds"])
    assert all(seconds >= 0 for seconds in profile["phases"].values()) and profile["phases"]["checkpoint"] > 0
    assert [step["step"] for step in profile["steps"]] == list(range(1, 8))
    for step in profile["steps"]:
        assert sum(step["phases"].values()) == pytest.approx(step["seconds"], rel=1e-6)
        assert step["exposed_io"] + step["adam"] <= step["phases"]["update"] * 1.05 + 1e-3
    assert profile["steps"][-1]["loss"] < profile["steps"][0]["loss"]


def test_the_environment_asks_for_a_profile_as_deepspeeds_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value, name in (("1", "deepspeed_profile.json"), ("other.json", "other.json"), ("0", None)):
        monkeypatch.setenv("DEEPSPEED_PROFILE", value)
        before = set(tmp_path.iterdir())
        with start() as engine:
            train(engine, 1)
        assert {path.name for path in set(tmp_path.iterdir()) - before} == ({name} if name else set())


def test_a_report_is_one_page_that_needs_nothing_else(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with start(
        orlop={"profile": str(tmp_path / "deepspeed_profile.json"), "memory": {"host": "1G", "pinned": 0}},
        zero_optimization=offload("nvme", store),
    ) as engine:
        train(engine, 8)
    assert main(["report", str(tmp_path)]) == 0
    assert "wrote " in capsys.readouterr().out
    page = (tmp_path / "deepspeed_profile.html").read_text()
    for part in (
        "What limits this run",
        "First change",
        "Loss",
        "exposed I/O",
        "beside its roof",
        "days of training",
        "1 GiB",
    ):
        assert part in page
    assert page.count("<svg") == 3
    assert not re.search(r'(src|href)="(?!#)', page.replace('xlink:href="#', ""))
    assert main(["report", str(tmp_path / "none.json")]) == 1
    (tmp_path / "none.json").write_text("{}")
    assert main(["report", str(tmp_path / "none.json")]) == 1


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ({"exposed_io": 0.8}, "the drive: 80%"),
        ({"adam": 0.7}, "the optimizer's arithmetic on the host: 70%"),
        ({"backward": 0.6}, "the model's own forward and backward: 70%"),
        ({"outside": 0.9}, "the program outside the engine: 90%"),
        ({"checkpoint": 0.5}, "checkpoints: 50%"),
    ],
)
def test_the_verdict_names_what_takes_most_of_the_time(parts: dict[str, float], what: str) -> None:
    from orlop.cli.report import Profile

    update = parts.get("exposed_io", 0) + parts.get("adam", 0)
    phases = {name: parts.get(name, 0.0) for name in ("backward", "outside", "checkpoint")}
    phases |= {"update": update, "forward": 1 - update - sum(phases.values())}
    if phases["forward"] > 0.3:  # spread over what is not asked about
        phases |= {"forward": 0.1, "outside": phases["outside"] + phases["forward"] - 0.1}
    step = {"seconds": 1.0, "phases": phases, "exposed_io": 0, "adam": 0, "hidden_io": 0, "nvme_read_bytes": 1} | {
        name: value for name, value in parts.items() if name in ("exposed_io", "adam")
    }
    content = {"steps": [step], "stats": {"nvme_bytes": 1}, "engine": {"kernels": {"threads": 2, "isa": "avx2"}}}
    assert Profile(content).verdict()[0].startswith(what)


def test_csv_files_have_deepspeeds_names_and_columns(tmp_path: Path) -> None:
    block = {"enabled": True, "output_path": str(tmp_path), "job_name": "job"}
    with start(csv_monitor=block, fp16={"enabled": True, "loss_scale": 4, "auto_cast": True}) as engine:
        train(engine, 3)
    rows = list(csv.reader((tmp_path / "job" / "Train_Samples_train_loss.csv").open()))
    assert rows[0] == ["step", "Train_Samples_train_loss"]
    assert [row[0] for row in rows[1:]] == ["8", "16", "24"] and float(rows[3][1]) > 0
    assert list(csv.reader((tmp_path / "job" / "Train_Samples_loss_scale.csv").open()))[1] == ["8", "4.0"]


def test_monitors_without_their_library_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(orlop.ConfigError, match="pip install wandb"):
        start(wandb={"enabled": True})
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(orlop.ConfigError, match="pip install tensorboard"):
        start(tensorboard={"enabled": True})


def test_weights_and_biases_gets_every_update(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[dict[str, float], int]] = []
    library: Any = types.ModuleType("wandb")
    run = types.SimpleNamespace(
        log=lambda values, step: logged.append((values, step)), finish=lambda: logged.append(({}, 0))
    )
    library.init = lambda **where: logged.append((where, -1)) or run
    monkeypatch.setitem(sys.modules, "wandb", library)
    with start(wandb={"enabled": True, "project": "p", "team": "t"}) as engine:
        train(engine, 2)
    assert logged[0] == ({"project": "p", "group": None, "entity": "t"}, -1)
    assert [step for values, step in logged if "Train/Samples/train_loss" in values] == [8, 16]
    assert logged[-1] == ({}, 0)


def test_configurations_are_printed_with_origin_and_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ds.json"
    file.write_text('{"train_batch_size": 8, "gradient_accumulation_steps": 2, "amp": {"enabled": false}}')
    assert main(["config", str(file)]) == 0
    said = capsys.readouterr().out
    assert re.search(r"train_micro_batch_size_per_gpu +4 +derived +\S", said) and "gradient_clipping" not in said
    assert main(["config", "--all", str(file)]) == 0
    assert re.search(r"gradient_clipping +1\.0 +default", capsys.readouterr().out)
    assert main(["config", "--json", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["train_batch_size"] == 8
    monkeypatch.setenv("ORLOP_PRINT_CONFIG", "1")
    with start():
        pass
    assert "optimizer.params.lr" in capsys.readouterr().out
