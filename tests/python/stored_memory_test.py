"""A model whose parameters and states are more than three times the memory that building and training it takes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from memory_cap import group_of

MIB = 1 << 20

# A first argument joins a control group before anything is loaded.
BEGINNING = """
import os, sys
if sys.argv[1]:
    with open(sys.argv[1], "w") as file:
        file.write(str(os.getpid()))
import torch
import orlop
from torch import nn


def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


def begin_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # VmHWM counts from here


torch.set_num_threads(1)
torch.manual_seed(0)
before = status("VmRSS:")
begin_peak()
"""

BUILDING = (
    BEGINNING
    + """
class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)


config = {"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme", "nvme_path": sys.argv[2]},
                                "offload_optimizer": {"device": "nvme", "nvme_path": sys.argv[2]}}}
with orlop.zero.Init(config_dict_or_path=config):
    model = nn.Sequential(nn.Embedding(16384, 1024), *(Block(1024) for _ in range(20)))
    model.apply(lambda module: nn.init.normal_(module.weight) if hasattr(module, "weight") else None)
print(sum(4 * parameter.ds_numel for parameter in model.parameters()),
      max(4 * parameter.ds_numel for parameter in model.parameters()), status("VmHWM:") - before)
"""
)

TRAINING = (
    BEGINNING
    + """
from orlop.cli.plan import plan_of
WIDTH, LAYERS, HOST = 2048, 52, int(sys.argv[3])
config = {
    "bf16": {"enabled": True},
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
    "zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"},
                          "offload_optimizer": {"device": "nvme", "nvme_path": sys.argv[2]}},
    "orlop": {"memory": {"host": HOST}},
}
with orlop.zero.Init(config_dict_or_path=config):
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False, dtype=torch.bfloat16) for _ in range(LAYERS)))
elements = sum(parameter.ds_numel for parameter in model.parameters())
try:
    planned = plan_of(model, orlop.Config(config))["host_bytes"]
    engine = orlop.initialize(model=model, config=config)[0]
except orlop.NoMemoryError as error:
    sys.exit(f"{error} {os.listdir(sys.argv[2])}")
for _ in range(2):
    x = torch.randn(4, WIDTH, dtype=torch.bfloat16)
    engine.backward(engine(x).float().square().mean())
    engine.step()
print(12 * elements, status("VmHWM:") - before, engine.stats()["host_bytes"], planned)
sys.stdout.flush()
type(engine._units)._room = lambda _: 0  # as on a machine where the model does not fit
engine.close()
"""
)


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, text=True, capture_output=True, timeout=600)


def test_building_takes_the_largest_parameter(tmp_path: Path) -> None:
    done = run(BUILDING, "", tmp_path)
    assert done.returncode == 0, done.stderr
    whole, largest, taken = (int(word) for word in done.stdout.split())
    assert whole > 700 * MIB and largest == 64 * MIB
    assert taken <= largest + 32 * MIB + 32 * MIB, f"{taken / MIB:.0f} MiB"  # others, and what reads and writes


@pytest.fixture(scope="module")
def least(tmp_path_factory: pytest.TempPathFactory) -> int:
    """The bytes of host memory that training needs, as a budget that is too small says them."""
    folder = tmp_path_factory.mktemp("least")
    refused = run(TRAINING, "", folder, MIB).stderr
    return int(re.search(r"needs (\d+) bytes", refused)[1])


def test_one_byte_less_is_refused_before_the_drive_is_touched(least: int, tmp_path: Path) -> None:
    refused = run(TRAINING, "", tmp_path, least - 1)
    assert refused.returncode == 1
    assert f"needs {least} bytes" in refused.stderr and ", 1 bytes too many" in refused.stderr
    assert refused.stderr.strip().endswith("[]")  # nothing in the folder


def test_training_takes_a_third_of_what_parameters_and_states_are(least: int, tmp_path: Path) -> None:
    """Python and torch included, where a control group can limit the whole program."""
    whole = 12 * 2048 * 2048 * 52
    with group_of(whole // 3) as group:
        done = run(TRAINING, group or "", tmp_path, least)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
    found, taken, planned, by_plan = (int(word) for word in done.stdout.split())
    assert found == whole and planned == by_plan <= least
    assert taken * 3 <= whole, f"{taken / MIB:.0f} MiB of {whole / MIB:.0f} MiB"
    assert taken <= 1.02 * planned + 64 * MIB, f"{taken} bytes, {planned} were planned"
    assert list(tmp_path.rglob("*.store")) == []
