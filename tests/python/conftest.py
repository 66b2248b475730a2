"""What the tests share: small models, and a folder for stores that must be empty again at the end."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orlop
import pytest
import torch
from torch import Tensor, nn

torch.set_num_threads(1)  # the models are small, and the machine may be busy

LEARNING = {"type": "AdamW", "params": {"lr": 1e-2, "betas": [0.9, 0.99], "eps": 1e-5, "weight_decay": 0.1}}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A directory to use as nvme_path; no engine may leave a file in it."""
    folder = tmp_path / "nvme"
    folder.mkdir()
    yield folder
    assert [path for path in folder.rglob("*") if path.is_file()] == []


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(7)


class TwoLayers(nn.Module):
    """Small, with parameters of sizes that are no multiple of anything."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(13, 37)
        self.norm = nn.LayerNorm(37)
        self.second = nn.Linear(37, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.norm(torch.tanh(self.first(x))))


def tiny_llama(**changes: Any) -> nn.Module:
    """A random Llama of 77 k parameters, its head tied to its embedding."""
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {
        "vocab_size": 256,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "tie_word_embeddings": True,
    }
    return LlamaForCausalLM(LlamaConfig(**settings | changes))


def config(**changes: Any) -> dict[str, Any]:
    """Everything in memory, no clipping."""
    return {"optimizer": copy.deepcopy(LEARNING), "gradient_clipping": 0} | changes


def offload(device: str, path: Path | None = None) -> dict[str, Any]:
    """The zero_optimization block."""
    where = {"device": device} | ({"nvme_path": str(path)} if path else {})
    return {"stage": 3, "offload_optimizer": where}


def batches(count: int, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    """Inputs and targets for TwoLayers, always the same."""
    generator = torch.Generator().manual_seed(11)
    return [
        (torch.randn(size, 13, generator=generator), torch.randn(size, 5, generator=generator)) for _ in range(count)
    ]


def loss_of(model: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def train(engine: orlop.Engine, steps: int) -> list[float]:
    """The losses of `steps` updates of TwoLayers."""
    losses = []
    for batch in batches(steps * engine.gradient_accumulation_steps()):
        loss = loss_of(engine, batch)
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    return losses


def failing_passes(engine: orlop.Engine, after: str, batch: tuple[Tensor, Tensor]) -> Iterator[None]:
    """Fails a forward after a submodule, then a backward pass before it; yields after each, the model sound again."""

    def fail(*_: Any) -> None:
        raise RuntimeError("made to fail")

    def fail_backward(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        output.register_hook(fail)

    for hook in (fail, fail_backward):
        handle = engine.module.get_submodule(after).register_forward_hook(hook)
        with pytest.raises(RuntimeError, match="made to fail"):
            engine.backward(loss_of(engine, batch))
        handle.remove()
        yield


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
