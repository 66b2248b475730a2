"""Host memory that is lent as tensors."""

from __future__ import annotations

import gc
import os

import orlop
import pytest
import torch
from orlop._host_pool import HostPool

CPU = torch.device("cpu")


def test_tensors_have_the_shape_and_type_and_memory_for_direct_transfers() -> None:
    tensor = HostPool(CPU).empty([3, 5], torch.bfloat16)
    assert tensor.shape == (3, 5) and tensor.dtype == torch.bfloat16 and tensor.is_contiguous()
    assert tensor.data_ptr() % 4096 == 0
    tensor.fill_(2)
    assert float(tensor.sum()) == 30


def test_memory_comes_back_when_nothing_refers_to_it() -> None:
    pool = HostPool(CPU)
    tensor = pool.empty([1000], torch.float32)
    view = tensor.view(10, 100)[2:3]
    del tensor
    gc.collect()
    assert pool.use().used_bytes == 4096, "a view refers to it"
    address = view.data_ptr() - 2 * 100 * 4
    del view
    gc.collect()
    assert pool.use().used_bytes == 0
    assert pool.empty([1000], torch.float32).data_ptr() == address


def test_a_tensor_keeps_its_pool() -> None:
    tensor = HostPool(CPU).empty([1 << 20], torch.uint8).fill_(7)
    gc.collect()
    assert int(tensor.sum()) == 7 << 20


def test_the_limit_is_a_limit() -> None:
    pool = HostPool(CPU, limit_bytes=2 << 20)
    kept = pool.empty([2 << 20], torch.uint8)
    with pytest.raises(orlop.NoMemoryError, match=r"orlop\.memory\.activations"):
        pool.empty([1], torch.uint8)
    assert pool.empty([0], torch.uint8).numel() == 0
    del kept
    gc.collect()
    assert pool.empty([1], torch.uint8).numel() == 1


def test_a_forked_child_has_none_of_it() -> None:
    pool = HostPool(CPU)
    pool.empty([1], torch.uint8)
    child = os.fork()
    if child == 0:
        try:
            pool.empty([1], torch.uint8)
        except orlop.ForkedError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
