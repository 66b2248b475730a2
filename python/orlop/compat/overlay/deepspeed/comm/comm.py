"""The process group and what is sent over it: torch.distributed, which every rank of DeepSpeed's programs uses too.

Collectives are torch's own functions. What is DeepSpeed's is how the group is made: from what a launcher says, or for
one process from nothing, and never a second time.
"""

from __future__ import annotations

import datetime
import os
from typing import Any

import torch
from orlop.errors import OutOfOrderError, WaitTimeoutError
from torch.distributed import (
    P2POp,
    ProcessGroup,
    ReduceOp,
    all_gather,
    all_gather_into_tensor,
    all_gather_object,
    all_reduce,
    all_to_all,
    all_to_all_single,
    barrier,
    batch_isend_irecv,
    broadcast,
    broadcast_object_list,
    destroy_process_group,
    gather,
    get_backend,
    get_global_rank,
    get_process_group_ranks,
    get_rank,
    get_world_size,
    irecv,
    is_available,
    is_initialized,
    isend,
    monitored_barrier,
    new_group,
    recv,
    reduce,
    reduce_scatter,
    reduce_scatter_tensor,
    scatter,
    send,
)

from .._missing import missing
from ..accelerator import get_accelerator
from ..constants import TORCH_DISTRIBUTED_DEFAULT_PORT, default_pg_timeout
from ..utils.logging import logger
from ._world import World, address, world_of

__all__ = [
    "P2POp",
    "ProcessGroup",
    "ReduceOp",
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_reduce",
    "all_to_all",
    "all_to_all_single",
    "barrier",
    "batch_isend_irecv",
    "broadcast",
    "broadcast_object_list",
    "configure",
    "destroy_process_group",
    "gather",
    "get_all_ranks_from_group",
    "get_backend",
    "get_global_rank",
    "get_local_rank",
    "get_local_rank_from_launcher",
    "get_process_group_ranks",
    "get_rank",
    "get_world_group",
    "get_world_rank_from_launcher",
    "get_world_size",
    "get_world_size_from_launcher",
    "init_distributed",
    "irecv",
    "is_available",
    "is_initialized",
    "isend",
    "log_summary",
    "monitored_barrier",
    "new_group",
    "recv",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "scatter",
    "send",
]

_local_rank: int | None = None  # the environment may be another one later

configure = missing("deepspeed.comm.configure", "leave comms_logger out; a profiler of torch shows collectives")
log_summary = missing("deepspeed.comm.log_summary", "leave comms_logger out; a profiler of torch shows collectives")


def init_distributed(
    dist_backend: str | None = None,
    auto_mpi_discovery: bool = True,
    distributed_port: int = TORCH_DISTRIBUTED_DEFAULT_PORT,
    verbose: bool = True,
    timeout: datetime.timedelta = default_pg_timeout,
    init_method: str | None = None,
    dist_init_required: bool | None = None,
    config: Any = None,
    rank: int = -1,
    world_size: int = -1,
) -> None:
    """Makes torch's process group, unless there is one; a group that is there is used, whoever made it.

    dist_backend: "nccl" or "gloo"; by default that of the accelerator. One that needs a device that is not here (nccl
        without a GPU) becomes the accelerator's.
    auto_mpi_discovery: whether an MPI launcher's variables count where RANK and WORLD_SIZE are missing.
    distributed_port: of rank 0's machine, where MASTER_PORT is missing.
    dist_init_required: False: the group has to be there already.
    rank, world_size: instead of the environment's; with neither, this is the only process.
    config, verbose: no effect: nothing is logged about collectives.

    Blocks until all ranks have come, for `timeout` at most. One process alone needs no address and no port.
    """
    del config, verbose
    world = World(rank, world_size, int(os.environ.get("LOCAL_RANK", "0"))) if rank >= 0 and world_size > 0 else None
    world = world or world_of(os.environ, auto_mpi_discovery)
    _remember(world)
    if is_initialized():
        return
    if dist_init_required is False:
        raise OutOfOrderError(
            "init_distributed: on dist_init_required=False: no process group is there: call "
            "torch.distributed.init_process_group before, or leave dist_init_required out"
        )
    where: dict[str, Any] = {"init_method": init_method or (address(distributed_port) if world.size > 1 else None)}
    if world.size == 1:
        where = {"store": torch.distributed.HashStore()}  # type: ignore[attr-defined]
    try:
        torch.distributed.init_process_group(
            _usable(dist_backend), timeout=timeout, rank=world.rank, world_size=world.size, **where
        )
    except torch.distributed.DistError as error:
        raise WaitTimeoutError(
            f"init_distributed: on rank {world.rank} of {world.size} at {where.get('init_method')} "
            f"({timeout.total_seconds():g} s): the ranks did not meet: {error}; see that all are started, that they "
            "have the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE, and that no firewall is between them"
        ) from error


def get_local_rank() -> int:
    """The rank on this machine, as the environment said when the group was made or first asked for."""
    if _local_rank is None:
        _remember(world_of(os.environ, by_mpi=True))
    assert _local_rank is not None
    return _local_rank


def get_world_rank_from_launcher() -> int:
    """What the environment says now."""
    return world_of(os.environ, by_mpi=True).rank


def get_world_size_from_launcher() -> int:
    """What the environment says now."""
    return world_of(os.environ, by_mpi=True).size


def get_local_rank_from_launcher() -> int:
    """What the environment says now."""
    return world_of(os.environ, by_mpi=True).local_rank


def get_world_group() -> Any:
    """The group of all ranks."""
    return torch.distributed.group.WORLD


def get_all_ranks_from_group(group: ProcessGroup | None = None) -> list[int]:
    """Ranks of the whole world, in the group's order."""
    return list(get_process_group_ranks(group or torch.distributed.group.WORLD))


def _remember(world: World) -> None:
    global _local_rank
    if _local_rank is None:
        _local_rank = world.local_rank


def _usable(backend: str | None) -> str:
    """A backend that this machine has."""
    own = get_accelerator().communication_backend_name()
    if backend in (None, own):
        return own
    if backend in ("nccl", "ccl") and not torch.cuda.is_available():
        logger.warning("init_distributed: on dist_backend %s: it is not on this machine: %s is used", backend, own)
        return own
    return str(backend)
