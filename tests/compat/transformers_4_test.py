"""Scripts in the spelling of transformers 4, whose Trainer takes `tokenizer=`, with that transformers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long  # downloads transformers

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "deepspeed"
PACKAGES = ["transformers==4.57.6", "huggingface_hub>=0.34,<1", "tokenizers>=0.22,<0.23"]

SCRIPT = """
import json, sys
from pathlib import Path
import transformers
from corpus import byte_tokenizer, load
from transformers import AutoModelForCausalLM, GPT2Config, Trainer, TrainingArguments

assert transformers.__version__.startswith("4.")
text, folder, config, resume = sys.argv[1:]
arguments = TrainingArguments(
    output_dir=folder, deepspeed=config or None, per_device_train_batch_size=2, gradient_accumulation_steps=2,
    max_steps=8, save_steps=4, logging_steps=1, learning_rate=5e-3, warmup_steps=2, report_to="none",
    gradient_checkpointing=True, disable_tqdm=True,
)
tokenizer = byte_tokenizer()
train, held_out = load(Path(text), tokenizer, 32)
settings = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=32)
transformers.set_seed(0)
trainer = Trainer(
    model=AutoModelForCausalLM.from_config(settings), args=arguments, train_dataset=train, eval_dataset=held_out,
    tokenizer=tokenizer,
)
trainer.train(resume_from_checkpoint=folder + "/checkpoint-4" if resume else None)
evaluated = trainer.evaluate()["eval_loss"]
trainer.save_model()
losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
Path(folder, "losses.json").write_text(json.dumps(losses + [evaluated]))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with transformers 4, to come before the environment's own."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *PACKAGES]
    done = subprocess.run(command, text=True, capture_output=True, timeout=600)
    if done.returncode:
        pytest.skip(f"pip cannot install transformers 4.57: {done.stderr.strip().splitlines()[-1]}")
    return folder


def run(site: Path, folder: Path, config: Any, resume: bool = False) -> list[float]:
    """The losses of a run, and that of the evaluation after it."""
    text = folder / "text.txt"
    text.write_text("It was the best of times, it was the worst of times, it was the age of wisdom.\n" * 60)
    written = ""
    if config is not None:
        written = str(folder / "config.json")
        Path(written).write_text(json.dumps(config))
    paths = [str(site), str(EXAMPLES), os.environ["PYTHONPATH"]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(text), str(folder / "out"), written, "yes" if resume else ""]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    losses: list[float] = json.loads((folder / "out" / "losses.json").read_text())
    return losses


def example(name: str, folder: Path) -> dict[str, Any]:
    text = (EXAMPLES / f"{name}.json").read_text().replace("/local_nvme", str(folder))
    config: dict[str, Any] = json.loads(text)
    return config


def test_stage_2_trains_as_without_offload(site: Path, tmp_path: Path) -> None:
    plain = run(site, tmp_path, None)
    assert run(site, tmp_path, example("minimal", tmp_path)) == pytest.approx(plain, rel=1e-4)


@pytest.mark.parametrize("name", ["memory", "nvme"])
def test_stage_3_trains_and_resumes(site: Path, name: str, tmp_path: Path) -> None:
    whole = run(site, tmp_path, example(name, tmp_path))
    assert whole[7] < whole[0]
    assert run(site, tmp_path, example(name, tmp_path), resume=True) == whole
