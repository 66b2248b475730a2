"""The process group: made from a launcher's variables or from nothing, once; and what is sent over it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import deepspeed
import deepspeed.comm as dist
import pytest
import torch
from deepspeed.accelerator import get_accelerator, is_current_accelerator_supported, real_accelerator
from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator
from deepspeed.comm import comm
from deepspeed.comm._world import World, world_of

LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "LOCAL_SIZE")


@pytest.fixture
def no_group(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No group, and no launcher's variable; whatever is made is gone afterwards."""
    if dist.is_initialized():
        dist.destroy_process_group()
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(comm, "_local_rank", None)
    yield monkeypatch
    if dist.is_initialized():
        dist.destroy_process_group()


# ---- Making the group ----


def test_one_process_needs_no_launcher(no_group: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    deepspeed.init_distributed()
    assert (dist.get_rank(), dist.get_world_size(), dist.get_local_rank()) == (0, 1, 0)
    assert torch.distributed.get_rank() == 0 and torch.distributed.get_backend() == "gloo"
    group = torch.distributed.group.WORLD
    deepspeed.init_distributed()
    assert torch.distributed.group.WORLD is group
    assert dict(os.environ) == before


def test_a_launchers_variables_may_be_gone_afterwards(no_group: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "3", "MASTER_PORT": "1"}.items():
        no_group.setenv(name, value)
    dist.init_distributed(dist_backend=None, auto_mpi_discovery=False)
    for name in LAUNCHERS:
        no_group.delenv(name, raising=False)
    assert (dist.get_rank(), dist.get_local_rank()) == (0, 3)


@pytest.mark.parametrize("required", [True, False, None])
def test_a_group_that_is_there_is_used(no_group: pytest.MonkeyPatch, required: bool | None) -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    group = torch.distributed.group.WORLD
    assert dist.is_initialized()
    dist.init_distributed(dist_init_required=required)
    assert torch.distributed.group.WORLD is group


def test_a_group_that_has_to_be_there_is_not_made(no_group: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="dist_init_required=False"):
        dist.init_distributed(dist_init_required=False)
    assert not dist.is_initialized()
    dist.init_distributed(dist_init_required=True)
    assert dist.is_initialized()


def test_a_backend_that_needs_a_gpu_becomes_the_machines_own(no_group: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    dist.init_distributed("nccl")
    assert dist.get_backend() == "gloo"


def test_several_ranks_need_to_know_where_to_meet(no_group: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="MASTER_ADDR"):
        dist.init_distributed(rank=0, world_size=2)


def test_mpis_launchers_are_understood_where_wanted() -> None:
    mpi = {"OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
    assert world_of(mpi, by_mpi=True) == World(5, 8, 1)
    assert world_of(mpi, by_mpi=False) == World(0, 1, 0)
    assert world_of(mpi | {"RANK": "2", "WORLD_SIZE": "4"}, by_mpi=True) == World(2, 4, 0)


# ---- Collectives ----

RANKS = """
import sys, torch, deepspeed
import deepspeed.comm as dist
deepspeed.init_distributed()
rank, size = dist.get_rank(), dist.get_world_size()
assert (size, dist.get_local_rank()) == (3, rank)
x = torch.tensor([float(rank + 1)])
dist.all_reduce(x)
assert x.item() == 6
dist.all_reduce(y := torch.tensor([rank]), op=dist.ReduceOp.MAX)
assert y.item() == 2
dist.broadcast(z := torch.tensor([rank]), 1)
assert z.item() == 1
dist.all_gather(parts := [torch.zeros(1) for _ in range(size)], torch.tensor([float(rank)]))
assert torch.cat(parts).tolist() == [0, 1, 2]
dist.all_gather_into_tensor(whole := torch.zeros(3), torch.tensor([float(rank)]))
assert whole.tolist() == [0, 1, 2]
pair = dist.new_group([0, 2])
if rank in (0, 2):
    dist.all_reduce(w := torch.tensor([float(rank)]), group=pair)
    assert w.item() == 2 and dist.get_world_size(pair) == 2 and dist.get_all_ranks_from_group(pair) == [0, 2]
dist.barrier()
dist.destroy_process_group()
assert not dist.is_initialized()
"""


def test_three_ranks_exchange_values(tmp_path: Path) -> None:
    from deepspeed.launcher import launch
    from orlop._ranks import free_port

    file = tmp_path / "ranks.py"
    file.write_text(RANKS)
    info = launch.encode_world_info({"localhost": [0, 1, 2]})
    arguments = [f"--world_info={info}", f"--master_port={free_port()}", "--no_local_rank", str(file)]
    assert launch.run(launch.parse_args(arguments)) == 0


# ---- The accelerator ----


def test_the_accelerator_is_always_the_same_object() -> None:
    assert get_accelerator() is get_accelerator() is deepspeed.get_accelerator()
    assert is_current_accelerator_supported()


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> CPU_Accelerator:
    monkeypatch.setattr(real_accelerator, "_chosen", None)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.delenv("LOCAL_SIZE", raising=False)
    chosen = get_accelerator()
    assert isinstance(chosen, CPU_Accelerator)
    return chosen


def test_the_processor_is_a_device(cpu: CPU_Accelerator, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cpu.is_available() and cpu._name == "cpu" and cpu.communication_backend_name() == "gloo"
    assert cpu.device_name() == cpu.device_name(0) == cpu.current_device_name() == "cpu"
    assert torch.device(cpu.current_device_name()) == torch.zeros(1).device
    cpu.set_device(0)
    assert cpu.device_count() == 1
    monkeypatch.setenv("LOCAL_SIZE", "4")
    assert cpu.device_count() == 4
    assert set(cpu.supported_dtypes()) == {torch.float32, torch.float16, torch.bfloat16}
    assert cpu.is_bf16_supported() and cpu.is_fp16_supported()
    cpu.synchronize()
    cpu.empty_cache()
    with cpu.device(0), cpu.stream(cpu.current_stream()):
        assert cpu.on_accelerator(torch.zeros(1)) and not cpu.on_accelerator(torch.zeros(1, device="meta"))
    assert cpu.ByteTensor([1]).dtype == torch.uint8
    x = torch.zeros(3)
    assert cpu.pin_memory(x) is x and not cpu.is_pinned(x)


def test_the_processors_random_numbers_can_be_repeated(cpu: CPU_Accelerator) -> None:
    cpu.manual_seed(3)
    state, first = cpu.get_rng_state(), torch.rand(3)
    cpu.set_rng_state(state)
    assert torch.equal(torch.rand(3), first) and cpu.initial_seed() == 3
    cpu.manual_seed_all(3)
    assert torch.equal(torch.rand(3), first)


def test_the_processors_memory_is_this_process(cpu: CPU_Accelerator) -> None:
    before = cpu.memory_allocated()
    kept = torch.ones(16 << 20)
    assert cpu.memory_allocated() - before > 32 << 20
    assert cpu.max_memory_allocated() >= cpu.memory_allocated()
    assert 0 < cpu.available_memory() <= cpu.total_memory()
    assert kept[0] == 1


@pytest.mark.parametrize("named", ["xpu", "cuda"])
def test_an_accelerator_that_is_not_here_is_refused_by_name(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if named == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(real_accelerator, "_chosen", None)
    monkeypatch.setenv("DS_ACCELERATOR", named)
    with pytest.raises(ValueError, match="DS_ACCELERATOR: "):
        get_accelerator()


def test_the_report_says_what_is_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from deepspeed import env_report

    monkeypatch.setenv("DS_BUILD_AIO", "1")
    env_report.cli_main()
    said = capsys.readouterr().out
    assert "this is not DeepSpeed" in said and deepspeed.__orlop__ in said and deepspeed.__version__ in said
    assert "DS_BUILD_AIO" in said and "nothing is compiled here" in said
    lines = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in said.splitlines()}
    for name in ("io_uring", "libaio", "NVMe offload", "host kernels"):
        assert name in lines
    for name, works in deepspeed.ops.__compatible_ops__.items():
        assert lines[name].startswith("yes") == works
    assert lines["CUDA"].startswith("yes") <= torch.cuda.is_available()


def test_torch_info_is_torchs_own() -> None:
    from deepspeed.git_version_info import torch_info

    assert torch.__version__.startswith(torch_info["version"] + ".")
    assert set(torch_info) == {"version", "bf16_support", "cuda_version", "nccl_version", "hip_version"}
    assert (torch_info["cuda_version"] == "0.0") == (torch.version.cuda is None)


def test_importing_makes_no_group() -> None:
    text = "import deepspeed, torch; assert not torch.distributed.is_initialized()"
    assert subprocess.run([sys.executable, "-c", text]).returncode == 0
