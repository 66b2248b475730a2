"""The command line, and the configuration that comes of it."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import orlop

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "finetune"

MICRO_BATCH = 4  # windows of --seq tokens
BUDGET = "560MiB"  # of host memory for the engine; gradients, parameters and states are 1.75 GiB

CONFIG: dict[str, Any] = {
    "train_micro_batch_size_per_gpu": MICRO_BATCH,
    "gradient_accumulation_steps": 1,
    "gradient_clipping": 1.0,
    "bf16": {"enabled": True},
    "optimizer": {"type": "AdamW", "params": {"lr": 2e-4, "betas": [0.9, 0.95], "weight_decay": 0.01}},
    "zero_optimization": {"stage": 3, "offload_optimizer": {}},
    "orlop": {"memory": {}, "checkpoint": {"keep": 1}},
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options, with `config` a dict."""
    parser = argparse.ArgumentParser(
        prog="finetune.py",
        description="Fine-tunes SmolLM2-135M-Instruct, every parameter of it, on the King James Bible, with its "
        "parameters and optimizer states in a store on disk, in a third of the memory that takes otherwise.",
    )
    parser.add_argument("--steps", type=_positive, default=80, help="updates, unless --minutes ends first (80)")
    parser.add_argument("--minutes", type=float, default=4.0, help="time limit for training; steps adapt to it (4)")
    parser.add_argument("--config", type=Path, help="a DeepSpeed configuration to use instead of the example's own")
    parser.add_argument(
        "--device", choices=("none", "cpu", "nvme"), help="where parameters and optimizer states live (nvme)"
    )
    parser.add_argument("--nvme_path", type=Path, help=f"directory on the drive to use ({_short(CACHE / 'store')})")
    parser.add_argument("--budget", help=f"host memory for the engine, for example 900MiB ({BUDGET})")
    parser.add_argument("--seq", type=_positive, default=256, help="tokens per window (256)")
    parser.add_argument("--seed", type=int, default=0, help="order of the text, and sampling (0)")
    parser.add_argument("--fresh", action="store_true", help="forget an interrupted run instead of going on with it")
    parser.add_argument("--out", type=Path, help="folder for the picture and the numbers (runs/finetune-TIME)")
    options = parser.parse_args(arguments)
    options.out = options.out or ROOT / "runs" / time.strftime("finetune-%Y%m%d-%H%M%S")
    options.config = _config(options)
    return options


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be at least 1")
    return value


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def _config(options: argparse.Namespace) -> dict[str, Any]:
    """The example's configuration, or a file's, with what the command line says on top."""
    own = options.config is None
    config: dict[str, Any] = json.loads(json.dumps(CONFIG)) if own else orlop.Config(options.config).values
    offload = config.setdefault("zero_optimization", {}).setdefault("offload_optimizer", {})
    memory = config.setdefault("orlop", {}).setdefault("memory", {})
    device = options.device or (None if not own else "nvme")
    if device is not None:
        offload["device"] = device
    if own and device == "nvme":
        config["zero_optimization"]["offload_param"] = {"device": "nvme"}
    if offload.get("device") == "nvme" and (options.nvme_path or not offload.get("nvme_path")):
        offload["nvme_path"] = str(_store_folder(options.nvme_path))
    budget = options.budget or (BUDGET if own and device == "nvme" else None)
    if budget is not None:
        memory["host"] = budget
    return config


def _store_folder(given: Path | None) -> Path:
    if given is not None:
        return given  # the engine says what is wrong with it
    folder = CACHE / "store"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
