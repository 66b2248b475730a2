"""Memory estimators, see_memory_usage and OnDevice."""

from __future__ import annotations

import logging
from pathlib import Path

import deepspeed
import pytest
import torch
from deepspeed.runtime.utils import see_memory_usage
from deepspeed.runtime.zero import stage3, stage_1_and_2
from torch import nn

torch.set_num_threads(1)


def squares(count: int, side: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(side, side, bias=False) for _ in range(count)))


@pytest.mark.skipif(torch.cuda.is_available(), reason="the figures are of a model on the GPU then")
@pytest.mark.parametrize("device", ["none", "cpu", "nvme"])
def test_an_estimate_is_what_the_engine_takes(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    offload = {key: {"device": device, "nvme_path": str(tmp_path)} for key in ("offload_param", "offload_optimizer")}
    zero = {"stage": 3} | (offload if device != "none" else {})
    settings = {
        "train_batch_size": 4,
        "bf16": {"enabled": True},
        "optimizer": {"type": "AdamW"},
        "zero_optimization": zero,
    }
    engine = deepspeed.initialize(model=squares(3, 512), config=settings)[0]
    stats = engine.stats()
    engine.destroy()
    if device != "nvme":
        is_cpu = device == "cpu"
        needs = stage3.estimate_zero3_model_states_mem_needs(3 * 512**2, 512**2, 1, 1, is_cpu, is_cpu)
        assert needs == (stats["host_bytes"], 0, 2 * 512**2)
        stage_2 = stage_1_and_2.estimate_zero2_model_states_mem_needs(3 * 512**2, cpu_offload=is_cpu)
        assert abs(stage_2[0] - stats["host_bytes"]) < 1e-2 * stats["host_bytes"]
    stage3.estimate_zero3_model_states_mem_needs_all_live(squares(3, 512))
    live = capsys.readouterr().out
    stage3.estimate_zero3_model_states_mem_needs_all_cold(3 * 512**2, 512**2)
    assert capsys.readouterr().out == live
    row = next(line for line in live.splitlines() if f"offload_param={device}, offload_optimizer={device}" in line)
    assert f"{stats['host_bytes'] / 2**20:.3g} MiB" in row


def test_estimates_of_scattered_models_and_of_tied_weights(capsys: pytest.CaptureFixture[str]) -> None:
    with deepspeed.zero.Init(config_dict_or_path={"train_batch_size": 1, "zero_optimization": {"stage": 3}}):
        model = squares(2, 64)
    assert stage3.model_to_params(model) == (2 * 64**2, 64**2)
    model[1].weight = model[0].weight
    assert stage3.model_to_params(model)[0] == 64**2
    stage_1_and_2.estimate_zero2_model_states_mem_needs_all_live(model, num_gpus_per_node=2)
    assert "0 M parameters, stage 2, 1 node(s) with 2 rank(s) each" in capsys.readouterr().out


def test_memory_in_use_is_said_when_it_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger=deepspeed.utils.logger.name):
        see_memory_usage("before")
        assert not caplog.messages
        see_memory_usage("after", force=True)
    assert caplog.messages[0] == "after" and "CPU Virtual Memory: used = " in caplog.messages[-1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, None])
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_parameters_are_made_on_a_device_in_a_type(device: str, dtype: torch.dtype | None) -> None:
    with deepspeed.OnDevice(dtype=dtype, device=device):
        layer = nn.Linear(4, 4)
        assert torch.arange(3).dtype == torch.int64 and torch.ones(1, dtype=torch.float64).dtype == torch.float64
    assert layer.weight.device.type == device and layer.weight.dtype == (dtype or torch.float32)
    assert nn.Linear(2, 2).weight.dtype == torch.float32 and nn.Linear(2, 2).weight.device.type == "cpu"
    with deepspeed.OnDevice(dtype=torch.float16, device="meta", enabled=False):
        assert nn.Linear(2, 2).weight.dtype == torch.float32
