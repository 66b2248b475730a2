"""Which rank of how many a process is, as its launcher says it in the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from orlop.errors import InvalidArgumentError

# Variables of launchers: rank, ranks in all, rank on this machine. The first launcher that has set two of them counts.
_LAUNCHERS = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
)


@dataclass(frozen=True)
class World:
    """Of one process."""

    rank: int
    size: int
    local_rank: int


def world_of(environment: Mapping[str, str], by_mpi: bool) -> World:
    """Rank 0 of 1 where no launcher has said anything.

    by_mpi: whether MPI's launchers count, too.
    """
    for rank, size, local_rank in _LAUNCHERS if by_mpi else _LAUNCHERS[:1]:
        if rank in environment and size in environment:
            return World(int(environment[rank]), int(environment[size]), int(environment.get(local_rank, "0")))
    return World(0, 1, int(environment.get("LOCAL_RANK", "0")))


def address(port: int) -> str:
    """Where ranks meet, for torch's `init_method`."""
    master = os.environ.get("MASTER_ADDR")
    if master is None:
        raise InvalidArgumentError(
            "init_distributed: on MASTER_ADDR: it is missing from the environment, and several ranks have to meet "
            "somewhere: set it to the address of rank 0's machine, or start them with `deepspeed` or torchrun"
        )
    return f"tcp://{master}:{os.environ.get('MASTER_PORT', port)}"
