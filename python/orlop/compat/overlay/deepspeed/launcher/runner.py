"""The `deepspeed` command: which ranks on which machines, and starting them."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial

from orlop._ranks import check_ranks, free_port
from orlop.errors import InvalidArgumentError, NotFoundError, OrlopError

from ..accelerator import get_accelerator
from ..constants import TORCH_DISTRIBUTED_DEFAULT_PORT
from . import launch
from ._arguments import DLTS_HOSTFILE, check_args, parse_args
from ._hosts import Hosts, fetch_hostfile, parse_resource_filter
from ._processes import Process, run_together
from .launch import decode_world_info, encode_world_info
from .multinode_runner import DEEPSPEED_ENVIRONMENT_NAME, DEEPSPEED_ENVIRONMENT_PATHS, EXPORT_ENVS, Remote, exported

__all__ = [
    "DEEPSPEED_ENVIRONMENT_NAME",
    "DEEPSPEED_ENVIRONMENT_PATHS",
    "DLTS_HOSTFILE",
    "EXPORT_ENVS",
    "command",
    "decode_world_info",
    "encode_world_info",
    "fetch_hostfile",
    "main",
    "parse_args",
    "parse_resource_filter",
]


def command() -> None:
    """The command itself: what is wrong is one sentence and status 1."""
    try:
        main()
    except OrlopError as error:
        sys.exit(f"deepspeed: {error}")


def main(args: Sequence[str] | None = None) -> None:
    """Starts a script's ranks, by default as `sys.argv` says, and ends with its exit status.

    Raises, before anything is started, InvalidArgumentError (a ValueError) for a command line that contradicts itself
    or names what is not there, UnsupportedError for more ranks than this version trains on.
    """
    chosen = parse_args(args)
    check_args(chosen)
    hosts = _hosts(chosen)
    check_ranks("launch", sum(map(len, hosts.values())), "write --num_gpus=1")
    status = start(chosen, hosts)
    if status:
        sys.exit(status)


def start(chosen: argparse.Namespace, hosts: Hosts) -> int:
    """Starts the ranks on these machines and waits for them; gives the exit status."""
    is_one = len(hosts) == 1 and not chosen.force_multi
    arguments = partial(_launch_arguments, chosen, hosts, _meeting_point(chosen, hosts, is_one))
    if is_one or chosen.no_ssh:
        return launch.run(launch.parse_args(arguments(str(max(chosen.node_rank, 0)))))
    return _start_elsewhere(chosen, hosts, arguments)


def _start_elsewhere(chosen: argparse.Namespace, hosts: Hosts, arguments: Callable[[str], list[str]]) -> int:
    launcher = chosen.launcher.lower()
    if shutil.which(launcher) is None:
        raise NotFoundError(f"launch: on --launcher {launcher}: it is not on PATH: install it, or name the other one")
    remote = Remote(
        launcher, shlex.split(chosen.launcher_args), chosen.ssh_port, chosen.venv_script, exported(os.environ)
    )
    lines = remote.commands(
        list(hosts), lambda number: [sys.executable, "-u", "-m", launch.__name__, *arguments(number)]
    )
    return run_together([partial(_start, line, remote.environment()) for line in lines])


def _start(line: list[str], environment: dict[str, str]) -> Process:
    return subprocess.Popen(line, env=environment)


def _hosts(chosen: argparse.Namespace) -> Hosts:
    """The machines and devices to use; no hostfile means this machine."""
    listed = fetch_hostfile(chosen.hostfile)
    if listed is None:
        if chosen.hostfile != DLTS_HOSTFILE:
            raise NotFoundError(f"launch: on --hostfile {chosen.hostfile}: there is no such file")
        every = {"localhost": _devices_here(chosen.num_gpus)}
    else:
        every = {host: list(range(slots)) for host, slots in listed.items()}
    return _first(parse_resource_filter(every, chosen.include, chosen.exclude), chosen.num_nodes, chosen.num_gpus)


def _devices_here(wanted: int) -> list[int]:
    """Numbers of this machine's devices. The processor is as many as are asked for."""
    accelerator = get_accelerator()
    if accelerator.device_name() == "cpu":
        return list(range(max(wanted, accelerator.device_count())))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return (
        [int(name) for name in visible] if all(map(str.isdigit, visible)) else list(range(accelerator.device_count()))
    )


def _first(hosts: Hosts, machines: int, devices: int) -> Hosts:
    """So many of the machines, and of the devices of each; a negative number means all."""
    if not hosts:
        raise InvalidArgumentError("launch: on --include or --exclude: no device is left")
    if machines == 0 or devices == 0 or machines > len(hosts):
        raise InvalidArgumentError(
            f"launch: on --num_nodes {machines} and --num_gpus {devices}: there are {len(hosts)} machines; write at "
            "least 1, or leave them out"
        )
    chosen = dict(list(hosts.items())[: None if machines < 0 else machines])
    for host, slots in chosen.items():
        if devices > len(slots):
            raise InvalidArgumentError(f"launch: on --num_gpus {devices}: {host} has {len(slots)}; write so many")
        chosen[host] = slots[: None if devices < 0 else devices]
    return chosen


def _meeting_point(chosen: argparse.Namespace, hosts: Hosts, is_one: bool) -> tuple[str, int]:
    """Address and port at which the ranks meet: rank 0's machine, by the name that the hostfile has for it."""
    if is_one:
        return chosen.master_addr or "127.0.0.1", chosen.master_port or free_port()
    return chosen.master_addr or next(iter(hosts)).rpartition("@")[
        2
    ], chosen.master_port or TORCH_DISTRIBUTED_DEFAULT_PORT


def _launch_arguments(chosen: argparse.Namespace, hosts: Hosts, meeting: tuple[str, int], number: str) -> list[str]:
    """The command line of `launch` for one machine."""
    arguments = [f"--world_info={encode_world_info(hosts)}", f"--node_rank={number}"]
    arguments += [f"--master_addr={meeting[0]}", f"--master_port={meeting[1]}"]
    flags = ("module", "no_python", "no_local_rank", "bind_cores_to_rank", "save_pid")
    arguments += [f"--{flag}" for flag in flags if getattr(chosen, flag)]
    arguments += [f"--enable_each_rank_log={chosen.enable_each_rank_log}"]
    arguments += [f"--bind_core_list={chosen.bind_core_list}"] if chosen.bind_core_list else []
    return [*arguments, chosen.user_script, *chosen.user_args]


if __name__ == "__main__":
    command()
