"""Where a byte lives never changes the arithmetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orlop
import pytest
import torch
from conftest import TwoLayers, config, offload, tiny_llama, train, values
from torch import Tensor

TIERS = ["cpu", *(f"nvme {queue}" for queue in orlop.build_info()["queues"])]


def run(tier: str, store: Path, **changes: Any) -> tuple[int, dict[str, Tensor], dict[str, Any]]:
    """Digest, parameters and stats after some steps on a tier."""
    device, _, queue = tier.partition(" ")
    settings = config(zero_optimization=offload(device, store if device == "nvme" else None), **changes)
    if queue:
        settings["orlop"] = {"queue": queue}
    torch.manual_seed(3)
    model = TwoLayers()
    with orlop.initialize(model=model, config=settings)[0] as engine:
        train(engine, 4)
        return engine.digest(), values(model), engine.stats()


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("changes", [{}, {"gradient_accumulation_steps": 2, "gradient_clipping": 0.05}])
def test_every_tier_and_queue_gives_the_same_bits(tier: str, changes: dict[str, Any], store: Path) -> None:
    digest, parameters, _ = run("none", store, **changes)
    other, other_parameters, stats = run(tier, store, **changes)
    assert other == digest
    for name, parameter in parameters.items():
        assert torch.equal(other_parameters[name], parameter), name
    assert (stats["nvme_bytes"] > 0) == tier.startswith("nvme")


@pytest.mark.parametrize("tier", TIERS)
def test_a_language_model_in_bf16_has_the_same_bits_on_every_tier(tier: str, store: Path) -> None:
    def digest(device: str, queue: str) -> int:
        torch.manual_seed(5)
        settings = config(bf16={"enabled": True}, zero_optimization=offload(device, store if queue else None))
        if queue:
            settings["orlop"] = {"queue": queue}
        with orlop.initialize(model=tiny_llama(), config=settings)[0] as engine:
            tokens = torch.arange(48).view(2, 24)
            for _ in range(3):
                engine.backward(engine(input_ids=tokens, labels=tokens).loss)
                engine.step()
            return engine.digest()

    device, _, queue = tier.partition(" ")
    assert digest(device, queue) == digest("none", "")


def test_states_read_from_nvme_are_those_in_memory(store: Path) -> None:
    def states(device: str) -> dict[str, Tensor]:
        torch.manual_seed(3)
        settings = config(zero_optimization=offload(device, store if device == "nvme" else None))
        with orlop.initialize(model=TwoLayers(), config=settings)[0] as engine:
            train(engine, 3)
            return {
                f"{name} {plane}": engine.read_plane(name, plane)
                for name, _ in engine.module.named_parameters()
                for plane in ("param", "master", "exp_avg", "exp_avg_sq")
            }

    in_memory, on_nvme = states("none"), states("nvme")
    assert all(torch.equal(on_nvme[name], plane) for name, plane in in_memory.items())
    assert all(bool(plane.any()) for plane in in_memory.values())


def test_a_store_that_does_not_fit_is_refused_before_anything_is_created(store: Path) -> None:
    model = TwoLayers()
    before = values(model)
    settings = config(zero_optimization=offload("nvme", store), orlop={"memory": {"host": "1KiB"}})
    with pytest.raises(orlop.NoMemoryError, match=r"orlop.memory.host .* bytes too many"):
        orlop.initialize(model=model, config=settings)
    settings["orlop"] = {"memory": {"nvme": "4KiB"}}
    with pytest.raises(orlop.NoSpaceError, match=r"orlop.memory.nvme .* bytes too many"):
        orlop.initialize(model=model, config=settings)
    assert list(store.iterdir()) == []
    assert all(torch.equal(value, before[name]) for name, value in values(model).items())


def test_a_bad_nvme_path_is_named(store: Path, tmp_path: Path) -> None:
    missing = store / "missing"
    with pytest.raises(orlop.NotFoundError, match=str(missing)):
        orlop.initialize(model=TwoLayers(), config=config(zero_optimization=offload("nvme", missing)))
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(orlop.OrlopError, match=str(file)):
        orlop.initialize(model=TwoLayers(), config=config(zero_optimization=offload("nvme", file)))


def test_two_engines_live_side_by_side(store: Path) -> None:
    settings = config(zero_optimization=offload("nvme", store))
    torch.manual_seed(3)
    first, *_ = orlop.initialize(model=TwoLayers(), config=settings)
    torch.manual_seed(3)
    second, *_ = orlop.initialize(model=TwoLayers(), config=settings)
    with first, second:
        assert train(first, 2) == train(second, 2)
        assert first.digest() == second.digest()
