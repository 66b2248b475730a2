"""examples/gpt.py as a user runs it: killed and started again it ends with the bits of a run that was not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def command(folder: Path, precision: str, name: str) -> list[str]:
    options = {
        "text": ROOT / "docs" / "design.md",
        "checkpoints": folder / name,
        "nvme_path": folder,
        "precision": precision,
        "updates": 40,
        "batch": 2,
        "length": 32,
        "width": 32,
        "save_every": 5,
        "print_every": 1,
    }
    flags = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return [sys.executable, str(ROOT / "examples" / "gpt.py"), *flags]


def test_killed_and_started_again_it_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    precision = "bf16"
    whole = subprocess.run(command(tmp_path, precision, "whole"), text=True, capture_output=True, check=True).stdout
    with subprocess.Popen(command(tmp_path, precision, "killed"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("step 23:"):
            pass
        process.kill()
    rest = subprocess.run(command(tmp_path, precision, "killed"), text=True, capture_output=True, check=True).stdout
    assert rest.startswith("going on after update 20\n")
    assert rest.splitlines()[-1] == whole.splitlines()[-1]
    losses = [float(line.split()[3].rstrip(",")) for line in whole.splitlines() if line.startswith("step ")]
    assert losses[-1] < losses[0]
