"""The errors that DeepSpeed's guides list, each with a sentence that says the way out."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deepspeed
import pytest
import torch
from torch import Tensor, nn

ADAM = {"optimizer": {"type": "AdamW", "params": {"lr": 1e-2}}, "train_micro_batch_size_per_gpu": 2}


class Layers(nn.Module):
    """Two of them; `between` may do something that fails."""

    def __init__(self, between: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.middle = Middle(between)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.middle(self.first(x)))


class Middle(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def engine_of(model: nn.Module | None = None, **config: Any) -> Any:
    return deepspeed.initialize(model=model or Layers(), config=ADAM | config)[0]


def on_drive(folder: Path) -> dict[str, Any]:
    drive = {"device": "nvme", "nvme_path": str(folder)}
    zero = {"stage": 3, "offload_optimizer": drive, "offload_param": drive, "stage3_param_persistence_threshold": 0}
    return {"zero_optimization": zero}


# ---- Out of memory ----


def no_memory_on_a_device(x: Tensor) -> Tensor:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def no_memory_on_the_host(x: Tensor) -> Tensor:
    return x + torch.empty(1 << 60)


class InBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return no_memory_on_a_device(gradients[0])


@pytest.mark.parametrize("fails", [no_memory_on_a_device, no_memory_on_the_host])
@pytest.mark.parametrize("is_stored", [False, True])
def test_out_of_memory_says_where_and_what_to_lower(
    fails: Callable[[Tensor], Tensor], is_stored: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = on_drive(tmp_path) if is_stored else {}
    engine = engine_of(Layers(fails), train_micro_batch_size_per_gpu=6, gradient_accumulation_steps=2, **place)
    with pytest.raises(RuntimeError, match="memory"):
        engine(torch.ones(6, 8))
    said = caplog.text
    assert "forward: on cpu, in middle: out of memory" in said
    assert "lower train_micro_batch_size_per_gpu (6) and raise gradient_accumulation_steps (2)" in said
    assert ("offload_param" in said) != is_stored
    assert ("stage3_max_live_parameters" in said) == is_stored
    engine.destroy()


def test_training_goes_on_after_out_of_memory_in_backward(caplog: pytest.LogCaptureFixture) -> None:
    model = Layers(InBackward.apply)
    engine = engine_of(model)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        engine.backward(engine(torch.ones(2, 8)).sum())
    assert "backward: on cpu" in caplog.text
    model.middle.function = torch.tanh
    engine.backward(engine(torch.ones(1, 8)).sum())
    engine.step()
    assert engine.was_step_applied()
    engine.destroy()


def test_other_errors_are_not_explained(caplog: pytest.LogCaptureFixture) -> None:
    engine = engine_of()
    with pytest.raises(RuntimeError, match="mat1"):
        engine(torch.ones(2, 7))
    assert "out of memory" not in caplog.text
    engine.destroy()


# ---- The engine, too early or not at all ----


def test_a_step_before_a_backward_pass_says_what_to_call() -> None:
    engine = engine_of()
    with pytest.raises(RuntimeError, match=r"step: no micro-batch since the last one: call engine.backward\(loss\)"):
        engine.step()
    engine.destroy()


def test_a_model_that_is_not_initialized_yet_says_so(tmp_path: Path) -> None:
    with deepspeed.zero.Init(config_dict_or_path=on_drive(tmp_path)):
        model = Layers()
    with pytest.raises(RuntimeError, match="its values are not in memory yet: call orlop.initialize first"):
        model(torch.ones(2, 8))


@pytest.mark.parametrize("is_stored", [False, True])
def test_the_raw_model_may_be_called(is_stored: bool, tmp_path: Path) -> None:
    model = Layers()
    engine = engine_of(model, **(on_drive(tmp_path) if is_stored else {}))
    loss = model(torch.ones(2, 8)).square().mean()
    engine.backward(loss)
    engine.step()
    assert engine(torch.ones(2, 8)).square().mean() < loss
    engine.destroy()


def test_the_raw_backward_pass_is_refused_where_it_would_be_wrong() -> None:
    model = Layers()
    engine = engine_of(model, fp16={"enabled": True})
    with pytest.raises(RuntimeError, match="Loss scaling is required"):
        model(torch.ones(2, 8).half()).sum().backward()
        engine.step()
    engine.destroy()


def test_the_optimizer_s_own_step_says_what_to_call() -> None:
    deepspeed_engine, optimizer, *_ = deepspeed.initialize(model=Layers(), config=ADAM)
    with pytest.raises(RuntimeError, match=r"call engine.step\(\) instead"):
        optimizer.step()
    deepspeed_engine.destroy()


# ---- Configurations ----


def test_batch_sizes_that_do_not_match() -> None:
    sizes = {"train_batch_size": 8, "train_micro_batch_size_per_gpu": 3, "gradient_accumulation_steps": 2}
    with pytest.raises(AssertionError, match=r"8 != 3 \* 2 \* 1; make them agree, or leave one of the three out"):
        engine_of(**sizes)


def test_two_precisions() -> None:
    with pytest.raises(AssertionError, match="a model has one type; switch one of them off"):
        engine_of(fp16={"enabled": True}, bf16={"enabled": True})


# ---- Ranks ----

ALONE = """
import datetime, deepspeed
deepspeed.init_distributed(timeout=datetime.timedelta(seconds=2))
"""


def test_a_rank_that_never_arrives_is_waited_for_and_missed() -> None:
    world = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29871"}
    done = subprocess.run(
        [sys.executable, "-c", ALONE], env={**os.environ, **world}, text=True, capture_output=True, timeout=120
    )
    assert done.returncode
    last = done.stderr.strip().splitlines()[-1]
    assert "init_distributed" in last and "127.0.0.1:29871" in last and "MASTER_ADDR" in last, done.stderr


# ---- Saving ----


def test_weights_that_are_not_gathered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    zero = on_drive(tmp_path)["zero_optimization"] | {"stage3_gather_16bit_weights_on_model_save": False}
    engine = engine_of(zero_optimization=zero)
    logging.getLogger("DeepSpeed").propagate = True
    assert not engine.save_16bit_model(str(tmp_path / "weights"))
    assert "stage3_gather_16bit_weights_on_model_save" in caplog.text
    assert not list((tmp_path / "weights").glob("*"))
    engine.destroy()
