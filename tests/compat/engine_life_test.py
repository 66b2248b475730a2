"""Engines that come and go: what they leave behind, what they survive."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import orlop
import pytest
import torch
from engine_models import TwoLayers, batches, config, engine_of, loss_of, model, offloaded, plain_losses, train, values
from torch import nn


class Breaks(nn.Module):
    """Raises where it is told to."""

    where = ""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.where == "forward":
            raise ZeroDivisionError("in forward")
        if self.where == "backward":
            x.register_hook(self._raise)
        return x * 1

    def _raise(self, _gradient: torch.Tensor) -> None:
        raise ZeroDivisionError("in backward")


@pytest.mark.parametrize("device", ["none", "nvme"])
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_training_goes_on_after_an_exception(where: str, device: str, tmp_path: Path) -> None:
    class Fragile(TwoLayers):
        def __init__(self) -> None:
            super().__init__()
            self.breaks = Breaks()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.breaks(torch.tanh(self.first(x)) * self.scale))

    torch.manual_seed(7)
    net = Fragile()
    engine = engine_of(net, accumulation=2, zero_optimization=offloaded(3, device, tmp_path))
    first = train(engine, 2)
    engine.backward(loss_of(engine, batches(1)[0]))
    engine.step()
    net.breaks.where = where
    with pytest.raises(ZeroDivisionError):
        engine.backward(loss_of(engine, batches(1)[0]))
    net.breaks.where = ""
    engine.zero_grad()
    assert engine.is_gradient_accumulation_boundary() == (where == "forward")
    while not engine.is_gradient_accumulation_boundary():
        engine.backward(loss_of(engine, batches(1)[0]))
        engine.step()
    engine.backward(loss_of(engine, batches(1)[0]))
    engine.step()
    assert first == pytest.approx(plain_losses(2, accumulation=2), rel=1e-5)
    assert engine.global_steps == 3
    engine.destroy()


def test_many_engines_in_one_process(tmp_path: Path) -> None:
    expected = plain_losses(2)
    for index in range(12):
        engine = engine_of(zero_optimization=offloaded(index % 4, "nvme" if index % 4 == 3 else "none", tmp_path))
        assert train(engine, 2) == pytest.approx(expected, rel=1e-5)
        if index % 2:
            engine.destroy()
        else:
            del engine
            gc.collect()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_nothing_is_left_patched() -> None:
    def state() -> list[object]:
        return [
            torch.empty,
            torch.zeros,
            torch.Tensor.__new__,
            torch.Tensor.backward,
            nn.functional.linear,
            nn.Module.__init__,
            nn.Module.__call__,
            nn.Module.__getattr__,
            nn.Module.apply,
            nn.Linear.__init__,
        ]

    before, net = state(), model()
    engine = engine_of(net, stage=3)
    assert state() == before, "nor while it lives"
    train(engine, 2)
    engine.destroy()
    assert state() == before
    hooks = [module._forward_hooks or module._forward_pre_hooks or module._backward_hooks for module in net.modules()]
    assert not any(hooks) and not any(p._backward_hooks or p._post_accumulate_grad_hooks for p in net.parameters())
    assert train_plainly(net, 0) > train_plainly(net)


def train_plainly(net: nn.Module, steps: int = 5) -> float:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    loss = loss_of(net, batches(1)[0])
    for _ in range(steps):
        loss = loss_of(net, batches(1)[0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


FLAT = """
import gc, pathlib, resource, sys
from engine_models import engine_of, offloaded, train
engine = engine_of(precision="bf16", zero_optimization=offloaded(3, "none", pathlib.Path(sys.argv[1])), accumulation=2)
for _ in range(5):  # until allocators have what they need
    train(engine, 100)
    gc.collect()
objects = len(gc.get_objects())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # the list just made is in it
for _ in range(10):
    train(engine, 100)  # of two micro-batches each
gc.collect()
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1024, "KiB"
assert len(gc.get_objects()) - objects < 200
engine.destroy()
"""


def test_memory_stays_flat_over_two_thousand_steps(tmp_path: Path) -> None:
    """In a process of its own: what other tests leave to be collected is not counted."""
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", FLAT, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_first_start_without_a_launcher() -> None:
    """No RANK in the environment: one process."""
    code = (
        "import os, deepspeed, torch\n"
        "from engine_models import engine_of, train\n"
        "engine = engine_of(stage=2)\n"
        "train(engine, 1)\n"
        "assert torch.distributed.is_initialized() and torch.distributed.get_rank() == 0\n"
        "assert (engine.global_rank, engine.local_rank, engine.world_size, engine.dp_world_size) == (0, 0, 1, 1)\n"
        "print('trained', engine.global_steps)\n"
    )
    ranks = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {name: value for name, value in os.environ.items() if name not in ranks}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), environment.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "trained 1" in done.stdout, done.stderr


def test_a_used_engine_that_is_closed_says_so() -> None:
    engine = engine_of()
    train(engine, 1)
    found = values(engine)
    engine.destroy()
    assert all(torch.equal(tensor, found[name]) for name, tensor in engine.module.named_parameters())
    with pytest.raises(orlop.OutOfOrderError, match="closed"):
        engine.step()


def test_a_step_before_any_backward_pass_is_one_sentence() -> None:
    engine = engine_of()
    with pytest.raises(orlop.OutOfOrderError, match=r"call engine.backward\(loss\) first"):
        engine.step()
    engine.destroy()


def test_the_model_called_instead_of_the_engine_trains_all_the_same(tmp_path: Path) -> None:
    engine = engine_of(zero_optimization=offloaded(3, "nvme", tmp_path))
    losses = []
    for batch in batches(3):
        loss = loss_of(engine.module, batch)
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    assert losses == pytest.approx(plain_losses(3), rel=1e-5)
    assert config()["gradient_clipping"] == engine.gradient_clipping()
    engine.destroy()
