"""The scripts in examples/deepspeed, as users start them. They know nothing of Orlop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "deepspeed"
RUN = [sys.executable, "-m", "orlop", "run"]
YAML = ["--config_file", str(EXAMPLES / "default_config.yaml")]

# How a script is started; `python` alone is what works once `orlop compat enable` has put the overlay on every path.
DOORS = {
    "orlop run": RUN,
    "orlop run torchrun": [*RUN, "torchrun", "--nproc_per_node=1", "--standalone"],
    "orlop run accelerate launch": [*RUN, "accelerate", "launch", "--num_processes=1"],
    "deepspeed": [*RUN, "deepspeed", "--num_gpus=1"],
    "python": [sys.executable],
}
CONFIGS = ["minimal", "speed", "memory", "nvme", "multi_node", "profile"]
TOGETHER = [
    ("orlop run", "minimal"),
    ("orlop run torchrun", "speed"),
    ("orlop run accelerate launch", "memory"),
    ("deepspeed", "nvme"),
    ("python", "multi_node"),
    ("orlop run", "profile"),
]
UPDATES = 8


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("It was the best of times, it was the worst of times, it was the age of wisdom.\n" * 120)
    return file


def run(command: list[str | Path], folder: Path, **environment: str) -> str:
    """What a program prints that ends well."""
    folder.mkdir(parents=True, exist_ok=True)
    around = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "false", **environment}
    around["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), around["PATH"]])  # torchrun, accelerate
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=around, text=True, capture_output=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def config_of(name: str, folder: Path) -> Path:
    """A copy of a configuration, whose drive is a folder here."""
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / f"{name}.json"
    copy.write_text((EXAMPLES / f"{name}.json").read_text().replace("/local_nvme", str(folder)))
    return copy


def arguments(text: Path, folder: Path, config: Path | None, *more: str) -> list[str | Path]:
    words: list[str | Path] = [EXAMPLES / "trainer.py", "--text", text, "--output_dir", folder / "out"]
    words += [
        "--length",
        "32",
        "--width",
        "32",
        "--report_to",
        "none",
        "--logging_steps",
        "1",
        "--disable_tqdm",
        "true",
    ]
    words += ["--max_steps", str(UPDATES), "--save_steps", str(UPDATES // 2), "--save_strategy", "steps"]
    words += ["--per_device_train_batch_size", "2", "--learning_rate", "5e-3", "--warmup_steps", "2"]
    return words + (["--deepspeed", config] if config else []) + list(more)


def losses(folder: Path) -> list[float]:
    state = json.loads((folder / "out" / f"checkpoint-{UPDATES}" / "trainer_state.json").read_text())
    return [line["loss"] for line in state["log_history"] if "loss" in line]


@pytest.fixture(scope="module")
def plain(text: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The losses without offload."""
    folder = tmp_path_factory.mktemp("plain")
    run([sys.executable, *arguments(text, folder, None)], folder)
    return losses(folder)


def train(door: str, name: str, text: Path, folder: Path, *more: str) -> str:
    return run([*DOORS[door], *arguments(text, folder, config_of(name, folder / "drive"), *more)], folder)


def check(name: str, folder: Path, plain: list[float]) -> None:
    found = losses(folder)
    assert len(found) == UPDATES and found[-1] < found[0]
    if name in ("minimal", "speed", "profile"):  # stage 3 draws the initial weights in another order
        assert found == pytest.approx(plain, rel=1e-4)  # they are printed with four digits or five


@pytest.mark.parametrize(("door", "name"), TOGETHER)
def test_the_trainer_runs(door: str, name: str, text: Path, plain: list[float], tmp_path: Path) -> None:
    printed = train(door, name, text, tmp_path)
    check(name, tmp_path, plain)
    if name == "profile":
        assert "forward" in printed and "update" in printed  # wall_clock_breakdown
        assert list((tmp_path / "monitor").rglob("*.csv"))


@pytest.mark.long
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("door", DOORS)
def test_every_configuration_runs_through_every_door(
    door: str, name: str, text: Path, plain: list[float], tmp_path: Path
) -> None:
    train(door, name, text, tmp_path)
    check(name, tmp_path, plain)


def test_the_trainer_resumes_and_others_read_what_it_saved(text: Path, tmp_path: Path) -> None:
    train("orlop run", "memory", text, tmp_path)
    whole = losses(tmp_path)
    out = tmp_path / "out"
    for file in (out / f"checkpoint-{UPDATES}").iterdir():
        if file.name == "trainer_state.json":
            file.rename(tmp_path / "whole.json")
    subprocess.run(["rm", "-r", out / f"checkpoint-{UPDATES}"], check=True)
    train("deepspeed", "memory", text, tmp_path, "--resume")
    assert losses(tmp_path) == whole
    without_us = {"PYTHONPATH": ""}
    by_pretrained = run([sys.executable, EXAMPLES / "read_back.py", out], tmp_path, **without_us)
    by_script = run([*RUN, EXAMPLES / "read_back.py", out / f"checkpoint-{UPDATES}"], tmp_path)
    words = [
        [line for line in printed.splitlines() if line.startswith("'The ")] for printed in (by_pretrained, by_script)
    ]
    assert len(words[0]) == 1 and words[0] == words[1]


def test_adapters_are_trained(text: Path, tmp_path: Path) -> None:
    train("deepspeed", "memory", text, tmp_path, "--lora", "--gradient_accumulation_steps", "2")
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()


def test_the_loop_of_accelerate_runs(text: Path, tmp_path: Path) -> None:
    command = [*RUN, "accelerate", "launch", *YAML, EXAMPLES / "accelerated.py", "--text", text]
    printed = run([*command, "--checkpoints", tmp_path, "--updates", "5"], tmp_path)
    assert "update 5: loss" in printed
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_the_loop_goes_on_where_it_was(text: Path, tmp_path: Path) -> None:
    command = [*DOORS["deepspeed"], EXAMPLES / "loop.py", "--text", text, "--checkpoints", tmp_path]
    command += ["--deepspeed", "--deepspeed_config", EXAMPLES / "loop.json"]
    first = run([*command, "--updates", "5"], tmp_path)
    assert "update 5: loss" in first
    second = run([*command, "--updates", "8"], tmp_path)
    assert "update 6: loss" in second and "update 5:" not in second
    assert (tmp_path / "latest").read_text() == "global_step8"


def test_the_hostfile_names_two_machines() -> None:
    from deepspeed.launcher.runner import fetch_hostfile

    assert dict(fetch_hostfile(str(EXAMPLES / "hostfile"))) == {"worker-1": 4, "worker-2": 4}


@pytest.mark.parametrize("file", sorted(EXAMPLES.iterdir()), ids=lambda file: file.name)
def test_they_know_nothing_of_orlop(file: Path) -> None:
    if file.is_file():
        assert "orlop" not in file.read_text().lower()


@pytest.mark.parametrize("name", [*CONFIGS, "loop"])
def test_nothing_in_the_configurations_is_unknown(name: str) -> None:
    import orlop

    config: dict[str, Any] = json.loads((EXAMPLES / f"{name}.json").read_text())
    assert not [note for note in orlop.Config(config).notes if "unknown" in note]
