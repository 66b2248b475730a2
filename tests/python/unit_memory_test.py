"""Memory that units leave goes to the next of the same size, within what is planned for them."""

from __future__ import annotations

from pathlib import Path

import orlop
import pytest
import torch
from conftest import config, offload
from orlop._unit_memory import UnitMemory
from torch import Tensor, UntypedStorage, nn


def tensor() -> Tensor:
    """One whose storage is empty and can have memory."""
    made = torch.empty(1024)
    made.untyped_storage().resize_(0)
    return made


def memory(live_bytes: int, largest_bytes: int = 4096) -> UnitMemory:
    made = UnitMemory()
    made.limit(live_bytes, largest_bytes)
    return made


def test_the_next_unit_of_the_same_size_has_the_memory_of_the_last() -> None:
    pool, first, second = memory(4096), tensor(), tensor()
    pool.give(first.untyped_storage(), 4096)
    address = first.data_ptr()
    view = first[:2]
    pool.take_back(first.untyped_storage())
    assert first.untyped_storage().nbytes() == 0 and first.data_ptr() == 0 and pool.spare_bytes == 4096
    pool.give(second.untyped_storage(), 4096)
    assert second.data_ptr() == address and pool.spare_bytes == 0
    second.fill_(7)
    pool.take_back(second.untyped_storage())
    pool.give(first.untyped_storage(), 4096)
    assert view.tolist() == [7, 7], "what was made of a tensor sees its memory again"


def test_memory_of_another_size_is_given_back_before_there_is_too_much() -> None:
    pool, small, large = memory(8192, 8192), tensor(), tensor()
    pool.give(small.untyped_storage(), 4096)
    pool.take_back(small.untyped_storage())
    assert pool.spare_bytes == 4096
    pool.give(large.untyped_storage(), 8192)
    assert pool.spare_bytes == 0 and large.untyped_storage().nbytes() == 8192


def test_what_is_kept_is_within_what_is_planned_and_little() -> None:
    units = [tensor() for _ in range(4)]
    beyond = memory(3 * 4096)
    for unit in units:  # as a program that gathers all may
        beyond.give(unit.untyped_storage(), 4096)
    for unit in units:
        beyond.take_back(unit.untyped_storage())
    assert beyond.spare_bytes == 2 * 4096
    nothing = memory(0)
    nothing.give(units[0].untyped_storage(), 4096)
    nothing.take_back(units[0].untyped_storage())
    assert nothing.spare_bytes == 0 and isinstance(units[0].untyped_storage(), UntypedStorage)


@pytest.mark.parametrize("live", [0, 2 * 64 * 64])
def test_while_a_model_is_trained_units_and_what_is_kept_are_within_the_plan(live: int, store: Path) -> None:
    limits = {"stage3_param_persistence_threshold": 0, "stage3_max_live_parameters": live}
    settings = offload("nvme", store) | {"offload_param": {"device": "nvme"}} | limits
    model = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(6)))
    with orlop.initialize(model=model, config=config(zero_optimization=settings, orlop={"unit_elements": 1}))[
        0
    ] as engine:
        pool = engine._units._memory
        limit, most, reused = engine.stats()["live_limit_bytes"], 0, 0
        plain = pool.give

        def give(storage: UntypedStorage, nbytes: int) -> None:
            nonlocal most, reused
            before = pool.spare_bytes
            plain(storage, nbytes)
            reused += pool.spare_bytes < before
            most = max(most, pool.spare_bytes + pool._live_bytes)

        pool.give = give  # type: ignore[method-assign]
        for _ in range(3):
            engine.backward(engine(torch.ones(2, 64)).square().mean())
            engine.step()
        assert reused > 10 and most <= limit
