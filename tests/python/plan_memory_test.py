"""What `orlop plan` says is what a process takes: each configuration of configs/ with a model of 100 M parameters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CONFIGS = Path(__file__).parents[2] / "configs"
# Those of several ranks plan what a rank takes once there are several.
FILES = sorted(file.name for file in CONFIGS.glob("*.json") if not file.name.startswith(("70b", "1t")))

PROGRAM = """
import json
import sys
import torch
import orlop
from torch import nn
from orlop.cli.plan import plan_of


def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


def train(engine, dtype, steps):
    for _ in range(steps):
        for _ in range(engine.gradient_accumulation_steps()):
            x = torch.randn(4, WIDTH, dtype=dtype)
            engine.backward(engine(x).float().square().mean())
        engine.step()


torch.set_num_threads(1)
WIDTH, LAYERS = 2048, 24
config = json.loads(sys.argv[1])
config["orlop"] = config.get("orlop", {}) | {"threads": 2}
config.setdefault("optimizer", {"type": "AdamW"})
dtype = torch.bfloat16 if config.get("bf16", {}).get("enabled") else torch.float32
dtype = torch.float16 if config.get("fp16", {}).get("enabled") else dtype


def model_of(layers):
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False, dtype=dtype) for _ in range(layers)))


with orlop.initialize(model=model_of(1), config=config | {"zero_optimization": {}})[0] as engine:
    train(engine, dtype, 1)  # the interpreter, torch and what it sets up with its first pass
before = status("VmHWM:")
model = model_of(LAYERS)
planned = plan_of(model, orlop.Config(config))["host_bytes"]
with orlop.initialize(model=model, config=config)[0] as engine:
    train(engine, dtype, 2)
    allocated, taken = engine.stats()["host_bytes"], status("VmHWM:") - before
    print(json.dumps({"planned": planned, "allocated": allocated, "taken": taken}))
    sys.stdout.flush()
    if engine._units is not None:
        type(engine._units)._room = lambda _: 0  # so that a model in the store need not come back
"""


@pytest.mark.parametrize("name", FILES)
def test_a_process_takes_what_was_planned(name: str, tmp_path: Path) -> None:
    from orlop import Config

    config = Config(str(CONFIGS / name))
    for drive in ("drive", "drive0", "drive1"):
        (tmp_path / drive).mkdir()
    text = json.dumps(config.values).replace("/local_nvme", str(tmp_path / "drive"))
    done = subprocess.run([sys.executable, "-c", PROGRAM, text], text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["allocated"] == found["planned"]
    assert found["taken"] <= 1.02 * found["planned"] + 64 * 2**20, f"{found['taken'] / 2**20:.0f} MiB"
