"""The command line of `deepspeed`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from orlop.errors import InvalidArgumentError, UnsupportedError

from .constants import (
    IMPI_LAUNCHER,
    MPICH_LAUNCHER,
    MVAPICH_LAUNCHER,
    OPENMPI_LAUNCHER,
    PDSH_LAUNCHER,
    SLURM_LAUNCHER,
    SSH_LAUNCHER,
)

DLTS_HOSTFILE = "/job/hostfile"

_MPI = (OPENMPI_LAUNCHER, MPICH_LAUNCHER, IMPI_LAUNCHER, SLURM_LAUNCHER, MVAPICH_LAUNCHER)


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    """What a command line says, `sys.argv` by default; what is behind the script is the script's own."""
    return _parser().parse_args(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deepspeed", description="Starts a script under Orlop, one process for each device."
    )
    _add_machines(parser)
    _add_processes(parser)
    _add_not_offered(parser)
    parser.add_argument("user_script", help="the script to start, followed by its own arguments")
    parser.add_argument("user_args", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _add_machines(parser: argparse.ArgumentParser) -> None:
    where = parser.add_argument_group("machines and devices")
    where.add_argument("-H", "--hostfile", default=DLTS_HOSTFILE, help="lines `name slots=N`; without, this machine")
    where.add_argument(
        "-i", "--include", default="", help="only these: NAME:0,1@NAME; a name alone has all its devices"
    )
    where.add_argument("-e", "--exclude", default="", help="all but these, written the same way")
    where.add_argument("--num_nodes", type=int, default=-1, help="so many of the hostfile's machines, the first")
    where.add_argument("--num_gpus", "--num_accelerators", type=int, default=-1, help="so many devices of each machine")
    where.add_argument("--master_addr", default="", help="address of rank 0's machine")
    where.add_argument(
        "--master_port", type=int, default=None, help="its port (a free one; 29500 for several machines)"
    )
    where.add_argument("--node_rank", type=int, default=-1, help="this machine's number, with --no_ssh")
    where.add_argument("--no_ssh", action="store_true", help="this command is started on every machine by other means")
    where.add_argument("--no_ssh_check", action="store_true", help="no effect: nothing is checked by ssh beforehand")
    where.add_argument("--force_multi", action="store_true", help="go through the launcher for one machine, too")
    where.add_argument("--launcher", default=PDSH_LAUNCHER, help="what starts other machines: pdsh or ssh")
    where.add_argument("--launcher_args", default="", help="further arguments for it")
    where.add_argument("--ssh_port", type=int, default=None, help="of the other machines")
    where.add_argument("--venv_script", default=None, help="a file that other machines' shells read first")


def _add_processes(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("processes")
    how.add_argument("--module", action="store_true", help="the script is a module: python -m")
    how.add_argument("--no_python", action="store_true", help="the script is a program of its own")
    how.add_argument("--no_local_rank", action="store_true", help="the script gets no --local_rank=N")
    how.add_argument("--bind_cores_to_rank", action="store_true", help="each process gets cores of its own")
    how.add_argument("--bind_core_list", default=None, metavar="LIST", help="the cores to share out: 0,2-4,6")
    how.add_argument(
        "--enable_each_rank_log", default="None", metavar="FOLDER", help="each rank's output in a file there"
    )
    how.add_argument("--log_level", default="info", help="no effect: the command itself says nothing")
    how.add_argument("-q", "--quiet", action="store_true", help="no effect, for the same reason")
    how.add_argument("--save_pid", action="store_true", help="write process ids to a file in the temporary folder")


def _add_not_offered(parser: argparse.ArgumentParser) -> None:
    refused = parser.add_argument_group("not offered")
    refused.add_argument("--autotuning", default="", choices=["", "tune", "run"], help="there is nothing left to tune")
    refused.add_argument("--elastic_training", action="store_true", help="ranks do not come and go")
    refused.add_argument("--min_elastic_nodes", type=int, default=-1, help=argparse.SUPPRESS)
    refused.add_argument("--max_elastic_nodes", type=int, default=-1, help=argparse.SUPPRESS)


def check_args(chosen: argparse.Namespace) -> None:
    """Raises UnsupportedError for what is not offered, InvalidArgumentError for what contradicts itself."""
    if chosen.autotuning:
        raise UnsupportedError("launch: on --autotuning: sizes are derived and the drive is calibrated; leave it out")
    if chosen.elastic_training or chosen.min_elastic_nodes > 0 or chosen.max_elastic_nodes > 0:
        raise UnsupportedError("launch: on --elastic_training: ranks do not come and go here; leave it out")
    if chosen.launcher.lower() in _MPI:
        raise UnsupportedError(
            f"launch: on --launcher {chosen.launcher}: ranks are not started through MPI or Slurm here; write "
            f"--launcher {PDSH_LAUNCHER} or {SSH_LAUNCHER}, or start `deepspeed --no_ssh --node_rank N` on each machine"
        )
    if chosen.launcher.lower() not in (PDSH_LAUNCHER, SSH_LAUNCHER):
        raise InvalidArgumentError(
            f"launch: on --launcher {chosen.launcher}: must be {PDSH_LAUNCHER} or {SSH_LAUNCHER}"
        )
    if (chosen.include or chosen.exclude) and (chosen.num_nodes >= 0 or chosen.num_gpus >= 0):
        raise InvalidArgumentError(
            "launch: on --include or --exclude: they name the devices; leave --num_nodes and --num_gpus out"
        )
    if chosen.module and chosen.no_python:
        raise InvalidArgumentError("launch: on --module and --no_python: a module is run by python; leave one out")
    if chosen.no_ssh and (chosen.node_rank < 0 or not chosen.master_addr):
        raise InvalidArgumentError(
            "launch: on --no_ssh: this machine's number and where rank 0 is are missing; write --node_rank and "
            "--master_addr"
        )
