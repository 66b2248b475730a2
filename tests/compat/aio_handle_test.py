"""aio_handle: tensors and files, byte for byte, at any size, offset and number of operations."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import deepspeed
import pytest
import torch
from deepspeed.ops.aio import AsyncIOBuilder, aio_handle
from orlop.errors import InvalidArgumentError, NotFoundError, OrlopError
from torch import Tensor

KIB = 1024


@pytest.fixture(params=[(KIB, 2), (1 << 20, 8)], ids=["small blocks", "large blocks"])
def handle(request: pytest.FixtureRequest) -> Iterator[aio_handle]:
    block_size, queue_depth = request.param
    yield AsyncIOBuilder().load().aio_handle(block_size, queue_depth, False, True, 1)


def content(count: int, seed: int = 1) -> Tensor:
    return torch.randint(0, 256, (count,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def bytes_of(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()


def test_the_builder_says_that_it_works_here_and_loads_it() -> None:
    assert AsyncIOBuilder.NAME == "async_io"
    assert AsyncIOBuilder().is_compatible()
    assert deepspeed.ops.__compatible_ops__.get(AsyncIOBuilder.NAME)
    assert AsyncIOBuilder().load().aio_handle is aio_handle


def test_the_getters_say_what_it_was_made_with() -> None:
    made = aio_handle(block_size=4096, queue_depth=3, single_submit=True, overlap_events=False, intra_op_parallelism=2)
    assert made.get_block_size() == 4096 and made.get_queue_depth() == 3 and made.get_intra_op_parallelism() == 2
    assert made.get_single_submit() is True and made.get_overlap_events() is False
    assert aio_handle().get_queue_depth() == 128 and aio_handle().get_block_size() == 1 << 20


@pytest.mark.parametrize("name", ["block_size", "queue_depth", "intra_op_parallelism"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=name):
        aio_handle(**{name: 0})


@pytest.mark.parametrize("count", [1, 1000, KIB, 4096, 5 * KIB + 7, 300_001])
def test_a_tensor_is_written_and_read_byte_for_byte(handle: aio_handle, count: int, tmp_path: Path) -> None:
    path, values, found = str(tmp_path / "file"), content(count), torch.zeros(count, dtype=torch.uint8)
    assert handle.sync_pwrite(values, path) == 1
    assert Path(path).read_bytes() == bytes_of(values)
    assert handle.sync_pread(found, path) == 1
    assert torch.equal(found, values)


@pytest.mark.parametrize("offset", [0, 1, 512, 4096, 10_000])
def test_offsets_are_those_of_the_file(handle: aio_handle, offset: int, tmp_path: Path) -> None:
    path, before, values = tmp_path / "file", content(40_000), content(9_999, seed=2)
    path.write_bytes(bytes_of(before))
    assert handle.sync_pwrite(buffer=values, filename=str(path), file_offset=offset) == 1
    expected = bytearray(bytes_of(before))
    expected[offset : offset + values.numel()] = bytes_of(values)
    assert path.read_bytes() == bytes(expected), "the rest of the file stays"
    found = torch.zeros(9_999, dtype=torch.uint8)
    assert handle.sync_pread(found, str(path), offset) == 1
    assert torch.equal(found, values)


@pytest.mark.parametrize("operations", [2, 3, 200])
def test_wait_says_how_many_operations_are_done(handle: aio_handle, operations: int, tmp_path: Path) -> None:
    written = [content(3000 + 11 * number, seed=number) for number in range(operations)]
    for number, values in enumerate(written):
        assert handle.async_pwrite(values, str(tmp_path / str(number))) == 0
    assert handle.wait() == operations
    read = [torch.zeros_like(values) for values in written]
    for number, values in enumerate(read):
        assert handle.async_pread(values, str(tmp_path / str(number))) == 0
    assert handle.wait() == operations
    assert handle.wait() == 0, "nothing is under way"
    assert all(torch.equal(found, values) for found, values in zip(read, written, strict=True))


def test_a_call_that_waits_leaves_others_under_way_alone(handle: aio_handle, tmp_path: Path) -> None:
    first, second = content(8192), content(8192, seed=2)
    handle.async_pwrite(first, str(tmp_path / "first"))
    assert handle.sync_pwrite(second, str(tmp_path / "second")) == 1
    assert handle.wait() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_any_type_and_shape_is_bytes(handle: aio_handle, dtype: torch.dtype, tmp_path: Path) -> None:
    values = torch.randn(7, 33).to(dtype)
    handle.write(values, str(tmp_path / "file"), True)
    found = torch.zeros_like(values)
    assert handle.read(found, str(tmp_path / "file"), True) == 1
    assert torch.equal(found, values)


def test_the_calls_with_a_switch_do_either(handle: aio_handle, tmp_path: Path) -> None:
    path, values = str(tmp_path / "file"), content(5000)
    assert handle.pwrite(values, path, False, False) == 1
    found = torch.zeros_like(values)
    assert handle.pread(found, path, False, **{"async": True}) == 0
    assert handle.wait() == 1
    assert torch.equal(found, values)
    with pytest.raises(TypeError, match="asynchronously"):
        handle.pread(found, path, False, asynchronously=True)


def test_a_descriptor_names_a_file_too(handle: aio_handle, tmp_path: Path) -> None:
    values = content(5001)
    with open(tmp_path / "file", "wb") as file:
        assert handle.async_pwrite(buffer=values, fd=file.fileno(), file_offset=3) == 0
        assert handle.wait() == 1
    assert (tmp_path / "file").read_bytes() == b"\0\0\0" + bytes_of(values)


def test_the_module_functions_do_without_a_handle(tmp_path: Path) -> None:
    library = AsyncIOBuilder().load()
    values, found = content(2000), torch.zeros(2000, dtype=torch.uint8)
    assert library.aio_write(values, str(tmp_path / "file"), KIB, 2, False, True, False) == 1
    assert library.aio_read(found, str(tmp_path / "file"), KIB, 2, False, True, False) == 1
    assert torch.equal(found, values)
    assert library.deepspeed_memcpy(found, content(2000, seed=3)) == 0
    assert torch.equal(found, content(2000, seed=3))


# ---- Locked memory ----


def test_locked_tensors_are_lent_used_and_given_back(handle: aio_handle, tmp_path: Path) -> None:
    example = torch.empty(0, dtype=torch.float16)
    tensor = handle.new_cpu_locked_tensor(1000, example)
    assert tensor.shape == (1000,) and tensor.dtype == torch.float16 and tensor.data_ptr() % 4096 == 0
    assert handle.is_pinned(tensor) and not handle.is_pinned(torch.empty(1000))
    tensor.fill_(1.5)
    handle.sync_pwrite(tensor, str(tmp_path / "file"))
    tensor.zero_()
    handle.sync_pread(tensor, str(tmp_path / "file"))
    assert bool((tensor == 1.5).all())
    assert handle.free_cpu_locked_tensor(tensor) is True
    assert handle.free_cpu_locked_tensor(tensor) is False
    assert handle.free_cpu_locked_tensor(torch.empty(3)) is False


# ---- Errors ----


def test_a_file_that_is_not_there_is_named(handle: aio_handle, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(NotFoundError, match=f"{missing}: No such file"):
        handle.sync_pread(content(10), missing)
    with pytest.raises(FileNotFoundError, match=missing):
        handle.async_pread(content(10), missing)


def test_a_file_that_is_too_short_is_refused_with_its_size(handle: aio_handle, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1500)
    with pytest.raises(ValueError, match=r"file.*the file has 1500 bytes"):
        handle.sync_pread(torch.zeros(2000, dtype=torch.uint8), str(tmp_path / "file"))


def test_a_directory_is_no_file(handle: aio_handle, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path}: Is a directory"):
        handle.sync_pwrite(content(10), str(tmp_path))


@pytest.mark.parametrize("tensor", [torch.zeros(8, 8).t(), torch.zeros(8, device="meta")])
def test_tensors_that_are_no_bytes_of_the_host_are_refused(handle: aio_handle, tensor: Tensor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contiguous one of the CPU"):
        handle.sync_pwrite(tensor, str(tmp_path / "file"))


def test_a_write_that_fails_raises_when_it_is_waited_for(handle: aio_handle) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("not available here: /dev/full")
    values = content(5000)
    handle.async_pwrite(values, "/dev/full")
    with pytest.raises(OSError, match="/dev/full"):
        handle.wait()
    assert handle.wait() == 0


# ---- Several handles and threads ----


def test_threads_share_a_handle_and_allocate_at_once(handle: aio_handle, tmp_path: Path) -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(5):
            values = content(20_000 + number, seed=100 * number + turn)
            found = handle.new_cpu_locked_tensor(values.numel(), values)
            handle.sync_pwrite(values, str(tmp_path / str(number)))
            handle.sync_pread(found, str(tmp_path / str(number)))
            if not torch.equal(found, values):
                wrong.append(f"{number}: {turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_several_handles_work_beside_each_other(tmp_path: Path) -> None:
    handles = [aio_handle(KIB, depth, False, True, 1) for depth in (1, 2, 8)]
    values = [content(10_001, seed=number) for number in range(3)]
    for number, made in enumerate(handles):
        made.async_pwrite(values[number], str(tmp_path / str(number)))
    assert [made.wait() for made in handles] == [1, 1, 1]
    assert [(tmp_path / str(number)).read_bytes() for number in range(3)] == [bytes_of(each) for each in values]


def test_the_interpreter_runs_while_a_call_waits(tmp_path: Path) -> None:
    """A pipe that nobody has opened for writing: the call cannot end before another thread does something."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    started, ended = threading.Event(), threading.Event()

    def read() -> None:
        started.set()
        with pytest.raises(OrlopError, match="pipe"):
            aio_handle(KIB, 2).sync_pread(torch.zeros(1, dtype=torch.uint8), str(path))
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    started.wait()
    os.close(os.open(path, os.O_WRONLY))
    reader.join(60)
    assert ended.is_set()


def test_gds_is_refused_with_a_reason() -> None:
    with pytest.raises(NotImplementedError, match="host memory"):
        AsyncIOBuilder().load().gds_handle()
    from deepspeed.ops.gds import GDSBuilder

    with pytest.raises(NotImplementedError, match="host memory"):
        GDSBuilder()
