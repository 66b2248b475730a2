"""examples/finetune.py, whole, with a small random model in place of the pretrained one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import orlop
import pytest
import torch
from conftest import TwoLayers, config, offload, tiny_llama, train

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import finetune as package
from finetune import live, model, options, overhead, summary, text, training

SCRIPT = Path(package.__file__).parents[1] / "finetune.py"


class Bytes:
    """A tokenizer whose tokens are bytes."""

    eos_token_id = 0

    def __len__(self) -> int:
        return 256

    def __call__(self, text: str | list[str], **_: Any) -> dict[str, Any]:
        if isinstance(text, str):
            ids = torch.tensor([list(text.encode())])
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return {"input_ids": [list(chapter.encode()) for chapter in text]}

    def decode(self, ids: torch.Tensor, **_: Any) -> str:
        return bytes(ids.tolist()).decode("latin-1")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The script's names, with the small model and a cache of its own."""
    monkeypatch.setattr(model, "load", lambda cache: (tiny_llama(max_position_embeddings=256).bfloat16(), Bytes()))
    monkeypatch.setattr(options, "CACHE", tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    names: dict[str, Any] = {"__name__": "finetune_script"}
    exec(compile(SCRIPT.read_text(), str(SCRIPT), "exec"), names)
    return names


def run(script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, out: Path, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["finetune.py", "--seq", "64", "--out", str(out), *arguments])
    status: int = script["main"]()
    return status


def larger_model() -> torch.nn.Module:
    """17 M parameters: more than there is room for in a budget of 128 MiB."""
    sizes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 4, "num_attention_heads": 8}
    return tiny_llama(max_position_embeddings=256, **sizes).bfloat16()


def store_files(folder: Path) -> list[Path]:
    return [path for path in (folder / "cache" / "store").rglob("*") if path.is_file()]


def test_it_trains_and_says_what_it_came_to(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model, "load", lambda cache: (larger_model(), Bytes()))
    assert run(script, monkeypatch, tmp_path / "out", "--steps", "16", "--budget", "128MiB") == 0
    said = capsys.readouterr().out
    for part in (
        "Before training",
        "step 16/16",
        "After training",
        "held-out loss",
        "bytes per parameter",
        "without it",
    ):
        assert part in said
    numbers = json.loads((tmp_path / "out" / "summary.json").read_text())
    held_out = [loss for _, loss in numbers["history"]["held_out"]]
    assert held_out[-1] < held_out[0]
    assert numbers["history"]["stats"]["nvme_read_bytes"] > 0
    assert (tmp_path / "out" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert store_files(tmp_path) == []


def run_interrupted(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, after: int, out: Path, *arguments: str
) -> None:
    """A run that Ctrl-C ends after so many steps."""
    update = training._update

    def interrupted(engine: orlop.Engine, batches: Any) -> training.Step:
        if engine.global_steps == after:
            raise KeyboardInterrupt
        return update(engine, batches)

    with monkeypatch.context() as patch:
        patch.setattr(training, "_update", interrupted)
        assert run(script, patch, out, *arguments) == 130


def test_ctrl_c_ends_it_with_a_summary_so_far(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_interrupted(script, monkeypatch, 3, tmp_path / "out")
    assert "3 of 80 planned (interrupted)" in capsys.readouterr().out


def losses(out: Path) -> list[float]:
    return [step["loss"] for step in json.loads((out / "summary.json").read_text())["history"]["steps"]]


def test_interrupted_and_started_again_it_goes_on_where_it_was(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(script, monkeypatch, tmp_path / "whole", "--steps", "12") == 0
    run_interrupted(script, monkeypatch, 7, tmp_path / "part", "--steps", "12")
    assert run(script, monkeypatch, tmp_path / "rest", "--steps", "12") == 0
    assert "going on after step 7" in capsys.readouterr().out
    assert losses(tmp_path / "rest") == losses(tmp_path / "whole")
    assert not (tmp_path / "cache" / "checkpoint").exists()


def test_a_run_with_other_options_or_fresh_starts_anew(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["--seed", "1"], ["--fresh"]):
        run_interrupted(script, monkeypatch, 6, tmp_path / "part", "--steps", "10")
        capsys.readouterr()
        assert run(script, monkeypatch, tmp_path / "rest", "--steps", "10", *arguments) == 0
        assert "going on" not in capsys.readouterr().out
        assert len(losses(tmp_path / "rest")) == 10


def test_what_cannot_be_done_is_one_sentence(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(script, monkeypatch, tmp_path / "out", "--nvme_path", str(tmp_path / "missing")) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert sentence.startswith("finetune: ") and str(tmp_path / "missing") in sentence


def test_options_override_the_examples_configuration_and_a_files(tmp_path: Path) -> None:
    own = options.parse(["--device", "cpu"]).config
    assert own["zero_optimization"]["offload_optimizer"] == {"device": "cpu"} and not own["orlop"]["memory"]
    file = tmp_path / "c.json"
    file.write_text('{"train_micro_batch_size_per_gpu": 2, "optimizer": {"type": "AdamW"}}')
    given = options.parse(["--config", str(file), "--device", "nvme", "--nvme_path", "/x", "--budget", "2GiB"]).config
    assert given["zero_optimization"]["offload_optimizer"]["nvme_path"] == "/x"
    assert given["orlop"]["memory"]["host"] == "2GiB" and given["train_micro_batch_size_per_gpu"] == 2


def test_the_text_is_the_bible_in_chapters_without_verse_numbers(tmp_path: Path) -> None:
    chapters = text._chapters(text._bible())
    assert len(chapters) == 1189
    assert chapters[0].startswith("In the beginning God created the heaven and the earth. And the earth was")
    corpus = text.load(Bytes(), 64, tmp_path)
    assert corpus.train.shape[1] == 65 and len(corpus.train) > 20 * len(corpus.held_out) > 0
    assert torch.equal(corpus.train[0, 1:], torch.cat([corpus.train[0], corpus.train[1]])[1:65])
    again = text.load(Bytes(), 64, tmp_path)
    assert torch.equal(again.train, corpus.train) and len(list(tmp_path.glob("tokens-*.pt"))) == 2


def test_batches_are_shuffled_alike_for_one_seed() -> None:
    corpus = text.Corpus(torch.arange(20).view(10, 2), torch.zeros(0))
    first, second, other = (corpus.batches(3, seed) for seed in (1, 1, 2))
    epoch = [next(first) for _ in range(3)]
    assert all(torch.equal(a, next(second)) for a in epoch)
    assert not all(torch.equal(a, next(other)) for a in epoch)
    assert not torch.equal(next(first), epoch[0])


def test_the_pace_drops_steps_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(training.time, "monotonic", lambda: now)
    pace = training.Pace(80, 4.0)
    now += 3 * 5.0 + 6.0  # three steps of 5 s and a held-out loss of 6
    sentence = pace.judge(3, 6.0)
    assert pace.steps == 3 + int((240 - 21 - 24) / 5)
    assert sentence == "80 steps would take 6.7 minutes on this machine (5.0 s each): doing 42"
    fast = training.Pace(80, 4.0)
    now += 3.0
    assert fast.judge(3, 0.1) == "" and fast.steps == 80


def test_the_learning_rate_rises_and_falls_to_a_tenth() -> None:
    pace = training.Pace(50, 1.0)
    rates = [pace.learning_rate(step) for step in range(51)]
    assert rates[0] == pytest.approx(0.2) and max(rates) < 1
    assert rates.index(max(rates)) == training.WARM_UP_STEPS - 1 and rates[50] == pytest.approx(0.1)


def test_hooks_cost_microseconds() -> None:
    assert 0 <= overhead.seconds_per_gradient() < 1e-3


def test_a_terminal_has_a_line_for_each_drive(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("TERM", "xterm")
    history = training.History(planned=1)
    with orlop.initialize(model=TwoLayers(), config=config(zero_optimization=offload("nvme", store)))[0] as engine:
        before, nothing = training.drives_of(engine, [])
        train(engine, 1)
        after, history.drives = training.drives_of(engine, before)
        assert nothing == [] and history.drives[0].read_bytes == after[0].read_bytes - before[0].read_bytes > 0
        assert engine.last_report is not None
        history.steps.append(training.Step(1.0, 1.0, 8, engine.last_report))
        history.stats = engine.stats()
    history.note = "a note"
    with live.display(training.Pace(1, 1.0)) as show:
        show(history)
    out = capsys.readouterr().out
    assert "a note" in out and f"{store}  read " in out and "100% of what is written" in out
    drive = training.Drive("/nvme0", 3_000_000_000, 1_000_000_000, 2.0, 0.25)
    assert live.drive_line(drive) == "/nvme0  read 1.50 write 0.50 GB/s while busy (2.00 s)  25% of what is written"


def test_times_and_summaries_read_well() -> None:
    assert [live.clock(seconds) for seconds in (0, 59.6, 127, -3)] == ["0:00", "1:00", "2:07", "0:00"]
    empty = summary.Outcome(training.History(), 0, 0.0, True)
    assert summary.text(empty) == "stopped before the first step"
    assert summary.peak_process_bytes() > 1 << 20
