"""The figures of docs/tiers.md are those of `orlop plan` and of a step's report."""

from __future__ import annotations

import re
from pathlib import Path

import orlop
import pytest
import torch
from orlop.cli.plan import plan_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tiers.md").read_text()
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
LINES = (line.strip("| ").split("|") for line in PAGE.splitlines() if line.startswith("| "))
ROWS = [tuple(cell.strip() for cell in line) for line in LINES]
PLANNED = [row for row in ROWS if row[0] in DTYPES and row[1] in ("none", "cpu", "nvme")]
MOVED = [row for row in ROWS if row[0] in DTYPES and row[1].isdigit()]


def config(precision: str, device: str, **more: object) -> dict[str, object]:
    offload = {"device": device} | ({"nvme_path": "."} if device == "nvme" else {})
    return {precision: {"enabled": True}} | base(offload) | more if precision != "fp32" else base(offload) | more


def base(offload: dict[str, str]) -> dict[str, object]:
    return {"optimizer": {"type": "AdamW"}, "zero_optimization": {"stage": 3, "offload_optimizer": offload}}


def model_of(precision: str, layers: int, width: int, device: str) -> torch.nn.Module:
    with torch.device(device):
        return torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(layers))).to(DTYPES[precision])


def test_the_tables_are_complete() -> None:
    assert [row[:2] for row in PLANNED] == [(precision, on) for precision in DTYPES for on in ("none", "cpu", "nvme")]
    assert [row[0] for row in MOVED] == list(DTYPES)


@pytest.mark.parametrize("row", PLANNED, ids=lambda row: f"{row[0]}-{row[1]}")
def test_bytes_per_parameter_are_those_of_the_plan(row: tuple[str, ...]) -> None:
    precision, on, *said = row
    configs = [orlop.Config(config(precision, on, gradient_accumulation_steps=steps)) for steps in (1, 8)]
    one, several = (plan_of(model_of(precision, 60, 4096, "meta"), each) for each in configs)
    found = [one["model_bytes"], several["model_bytes"], one["states_host_bytes"], one["nvme_bytes"]]
    assert [f"{value / one['params']:.1f}" for value in found] == said, f"docs/tiers.md, {precision} on {on}"


@pytest.mark.parametrize("row", MOVED, ids=lambda row: row[0])
def test_a_step_moves_as_many_bytes(row: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    precision, read, written, seconds = row
    monkeypatch.chdir(tmp_path)
    with orlop.initialize(model=model_of(precision, 4, 1024, "cpu"), config=config(precision, "nvme"))[0] as engine:
        for _ in range(3):
            engine.backward(engine(torch.randn(2, 1024, dtype=DTYPES[precision])).float().square().mean())
            engine.step()
        stats = engine.stats()
        engine.digest()  # waits for what is written behind a step
        bytes_written = engine.stats()["nvme_write_bytes"]
    updated = stats["params"] * stats["steps"]
    assert stats["nvme_read_bytes"] / updated == pytest.approx(int(read), rel=0.05)
    assert bytes_written / updated == pytest.approx(int(written), rel=0.05)
    assert seconds == f"{(int(read) + int(written)) / 2.5:.1f} s"


def test_every_configuration_has_its_machine() -> None:
    for file in sorted((ROOT / "configs").glob("*.json")):
        assert re.search(rf"\(\.\./configs/{file.name}\)", PAGE), f"docs/tiers.md does not say what {file.name} is for"
