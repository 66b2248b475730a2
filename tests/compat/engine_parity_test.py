"""Loss curves through deepspeed.initialize against a loop of plain PyTorch, wherever parameters and states are."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_models import engine_of, offloaded, plain_losses, train

UPDATES = 10
# Relative. In 16 bits a parameter that lies between two values may be rounded to the other one: the norm, which decides
# the clip factor, is exact here and rounded there.
TOLERANCE = {"fp32": 1e-5, "bf16": 1e-2, "fp16": 2e-3}


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(
    ("stage", "device"),
    [(0, "none"), (1, "none"), (2, "none"), (2, "cpu"), (3, "none"), (3, "cpu"), (3, "nvme")],
)
def test_the_losses_are_those_of_plain_torch(
    stage: int, device: str, precision: str, accumulation: int, tmp_path: Path
) -> None:
    engine = engine_of(
        precision=precision, accumulation=accumulation, zero_optimization=offloaded(stage, device, tmp_path)
    )
    losses = train(engine, UPDATES)
    engine.destroy()
    expected = plain_losses(UPDATES, precision, accumulation)
    assert losses == pytest.approx(expected, rel=TOLERANCE[precision])
    assert losses[-1] < losses[0]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
