"""Starts the ranks of one machine: what `deepspeed` runs here, and on every other machine by pdsh or ssh."""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from orlop.errors import NotFoundError

from ..accelerator import get_accelerator
from ..constants import TORCH_DISTRIBUTED_DEFAULT_PORT
from ._cores import cores_of, started_on
from ._hosts import Hosts
from ._processes import Process, run_together


def encode_world_info(world_info: Hosts) -> str:
    """Machines and their devices as one word of a command line."""
    return base64.urlsafe_b64encode(json.dumps(world_info).encode()).decode()


def decode_world_info(text: str) -> Hosts:
    hosts: Hosts = json.loads(base64.urlsafe_b64decode(text))
    return hosts


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="deepspeed.launcher.launch", description="Starts the ranks of one machine; `deepspeed` calls it."
    )
    parser.add_argument("--world_info", type=decode_world_info, required=True, help="machines and devices, encoded")
    parser.add_argument("--node_rank", type=int, default=0, help="this machine's number among them")
    parser.add_argument("--master_addr", default="127.0.0.1")
    parser.add_argument("--master_port", type=int, default=TORCH_DISTRIBUTED_DEFAULT_PORT)
    parser.add_argument("--module", action="store_true")
    parser.add_argument("--no_python", action="store_true")
    parser.add_argument("--no_local_rank", action="store_true")
    parser.add_argument("--bind_cores_to_rank", action="store_true")
    parser.add_argument("--bind_core_list", default=None)
    parser.add_argument("--enable_each_rank_log", default="None")
    parser.add_argument("--save_pid", action="store_true")
    parser.add_argument("training_script")
    parser.add_argument("training_script_args", nargs=argparse.REMAINDER)
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> None:
    """Ends with the exit status of the script."""
    status = run(parse_args(args))
    if status:
        sys.exit(status)


def run(chosen: argparse.Namespace) -> int:
    """Starts this machine's ranks and waits for them; gives the exit status."""
    if chosen.no_python and shutil.which(chosen.training_script) is None:
        raise NotFoundError(f"launch: on {chosen.training_script}: there is no such program: leave --no_python out")
    slots = list(chosen.world_info.values())[chosen.node_rank]
    with ExitStack() as open_files:
        starts = [partial(_start, chosen, local_rank, open_files) for local_rank in range(len(slots))]
        if chosen.save_pid:
            open_files.enter_context(_pid_file())
        return run_together(starts)


def _start(chosen: argparse.Namespace, local_rank: int, open_files: ExitStack) -> Process:
    environment = _environment(chosen, local_rank)
    cores = None
    if chosen.bind_cores_to_rank:
        cores = cores_of(local_rank, int(environment["LOCAL_SIZE"]), chosen.bind_core_list)
        environment.setdefault("OMP_NUM_THREADS", str(len(cores)))
    output = _output(chosen, int(environment["RANK"]), open_files)
    with started_on(cores):
        return subprocess.Popen(_command(chosen, local_rank), env=environment, stdout=output, stderr=output)


def _environment(chosen: argparse.Namespace, local_rank: int) -> dict[str, str]:
    machines = list(chosen.world_info.values())
    slots = machines[chosen.node_rank]
    rank = sum(map(len, machines[: chosen.node_rank])) + local_rank
    environment = {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(local_rank),
        "WORLD_SIZE": str(sum(map(len, machines))),
        "LOCAL_SIZE": str(len(slots)),
        "LOCAL_WORLD_SIZE": str(len(slots)),
        "CROSS_RANK": str(chosen.node_rank),
        "CROSS_SIZE": str(len(machines)),
        "MASTER_ADDR": chosen.master_addr,
        "MASTER_PORT": str(chosen.master_port),
    }
    get_accelerator().set_visible_devices_envs(environment, slots)
    return environment


def _command(chosen: argparse.Namespace, local_rank: int) -> list[str]:
    python = [] if chosen.no_python else [sys.executable, "-u", *(["-m"] if chosen.module else [])]
    rank = [] if chosen.no_local_rank else [f"--local_rank={local_rank}"]
    return [*python, chosen.training_script, *rank, *chosen.training_script_args]


def _output(chosen: argparse.Namespace, rank: int, open_files: ExitStack) -> IO[bytes] | None:
    """Where a rank writes: to this process's own output, unless each is to have a file."""
    if chosen.enable_each_rank_log in ("None", None):
        return None
    folder = Path(chosen.enable_each_rank_log)
    folder.mkdir(parents=True, exist_ok=True)
    return open_files.enter_context((folder / f"rank{rank}.log").open("ab"))


@contextmanager
def _pid_file() -> Iterator[None]:
    """A file named for this process while it runs."""
    file = Path(tempfile.gettempdir(), f"{os.getpid()}.deepspeed")
    file.write_text(json.dumps({"launcher": os.getpid()}))
    try:
        yield
    finally:
        file.unlink()


if __name__ == "__main__":
    main()
