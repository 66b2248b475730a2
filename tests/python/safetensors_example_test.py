"""examples/from_safetensors.py as its first lines say: import, train, export; and the loss falls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from cli_test import run
from conftest import tiny_llama

ROOT = Path(__file__).resolve().parents[2]


def save_tokenizer_of_bytes(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def test_it_trains_from_imported_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    given = tiny_llama()
    given.save_pretrained(tmp_path / "model")
    save_tokenizer_of_bytes(tmp_path / "model")
    assert run(capsys, "import", tmp_path / "model", tmp_path / "start", "--dtype", "bf16")[0] == 0
    options = {
        "model": tmp_path / "model",
        "start": tmp_path / "start",
        "text": ROOT / "docs" / "design.md",
        "out": tmp_path / "tuned",
        "nvme_path": tmp_path,
        "length": 32,
        "lr": 1e-2,
    }
    flags = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    script = [sys.executable, str(ROOT / "examples" / "from_safetensors.py"), *flags]
    said = subprocess.run(script, text=True, capture_output=True, check=True).stdout
    losses = [float(line.split()[3].rstrip(",")) for line in said.splitlines() if line.startswith("step ")]
    assert len(losses) == 20 and losses[-1] < 0.8 * losses[0]
    assert run(capsys, "export", tmp_path / "tuned", tmp_path / "weights")[0] == 0
    given.config.save_pretrained(tmp_path / "weights")
    tuned = AutoModelForCausalLM.from_pretrained(tmp_path / "weights", dtype=torch.bfloat16)
    changed = [
        not torch.equal(new, old.bfloat16()) for new, old in zip(tuned.parameters(), given.parameters(), strict=True)
    ]
    assert all(changed)
