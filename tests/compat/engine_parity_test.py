"""Loss curves through deepspeed.initialize against a loop of plain PyTorch, wherever parameters and states are."""

from __future__ import annotations

from pathlib import Path

import orlop
import pytest
import torch
from deepspeed.runtime.torch_autocast import get_comm_dtype, has_comm_dtype
from engine_models import LEARNING, batches, engine_of, loss_of, model, offloaded, plain_losses, train

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


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_autocast_is_torchs(stage: int) -> None:
    engine = engine_of(stage=stage, torch_autocast={"enabled": True, "dtype": "bfloat16"}, gradient_clipping=0)
    plain = model()
    optimizer = torch.optim.AdamW(plain.parameters(), **LEARNING)
    expected = []
    for batch in batches(UPDATES):
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(plain, batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        expected.append(loss.item())
    assert train(engine, UPDATES) == pytest.approx(expected, rel=1e-5)
    assert engine.module.first.weight.dtype == torch.float32 and engine(batches(1)[0][0]).dtype == torch.bfloat16
    engine.destroy()


@pytest.mark.parametrize(("names", "marked"), [(None, 4), (["torch.nn.LayerNorm"], 0)])
def test_parameters_that_autocast_computes_with_say_what_they_are_exchanged_in(
    names: list[str] | None, marked: int
) -> None:
    block = {"enabled": True, "dtype": "bfloat16"} | ({} if names is None else {"lower_precision_safe_modules": names})
    engine = engine_of(stage=2, torch_autocast=block)
    found = [parameter for parameter in engine.module.parameters() if has_comm_dtype(parameter)]
    assert len(found) == marked and all(get_comm_dtype(parameter) is torch.bfloat16 for parameter in found)
    assert get_comm_dtype(engine.module.scale) is torch.float32
    engine.destroy()
    with pytest.raises(orlop.ConfigError, match="no class of modules"):
        engine_of(torch_autocast=block | {"lower_precision_safe_modules": ["NoSuchModule"]})


def test_autocast_in_fp16_has_no_loss_scale() -> None:
    with pytest.raises(orlop.UnsupportedError, match="fp16"):
        engine_of(torch_autocast={"enabled": True, "dtype": "float16"})
