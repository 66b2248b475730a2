"""Nothing grows over thousands of updates."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import orlop
import pytest
from conftest import TwoLayers, config, offload, train


def _state(folder: Path) -> dict[str, int]:
    gc.collect()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "resident": resident,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "disk": sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file()),
    }


@pytest.mark.parametrize("tier", ["cpu", "nvme"])
def test_two_thousand_updates_take_no_more_than_a_hundred(tier: str, tmp_path: Path) -> None:
    (tmp_path / "nvme").mkdir()
    where = tmp_path / "nvme" if tier == "nvme" else None
    settings = config(zero_optimization=offload(tier, where), orlop={"checkpoint": {"keep": 2}})
    with orlop.initialize(model=TwoLayers(), config=settings)[0] as engine:

        def train_and_save(updates: int) -> dict[str, int]:
            for _ in range(updates // 50):
                train(engine, 50)
                engine.save_checkpoint(tmp_path / "checkpoints")
            return _state(tmp_path)

        before = train_and_save(200)
        after = train_and_save(2000)
    assert after["resident"] - before["resident"] < 4 << 20
    assert abs(after["disk"] - before["disk"]) < 64 << 10
    for what in ("descriptors", "threads"):
        assert after[what] == before[what], what
