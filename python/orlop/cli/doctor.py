"""`orlop doctor`: what this machine has, and what would make it faster."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import _native
from .._initialize import initialize
from .._text import size
from ..errors import OrlopError

_MEASURED_PARAMS = 36_000_000  # states of 288 MB: enough for the library to measure the drive
_SMALL_MEMLOCK = 1 << 30


def add_to(commands: Any) -> None:
    """Adds the subcommand."""
    doctor = commands.add_parser(
        "doctor",
        help="what this machine has, and what is wrong with it",
        description="Lists what Orlop uses of this machine: processor, memory, drives, GPU, versions. With --nvme_path "
        "it measures that drive (three seconds, 0.4 GB). Each problem comes with the command that mends it.",
    )
    doctor.add_argument("--nvme_path", type=Path, action="append", default=[], help="a directory on a drive to measure")
    doctor.set_defaults(run=run)


@dataclass
class Findings:
    """Lines to show, and problems with their remedies."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def say(self, name: str, value: str) -> None:
        self.lines.append((name, value))

    def complain(self, problem: str, remedy: str) -> None:
        self.problems.append((problem, remedy))


def run(chosen: argparse.Namespace) -> int:
    """`orlop doctor`: 1 when there are problems."""
    findings = Findings()
    _versions(findings)
    _processor(findings)
    _memory(findings)
    _queues(findings)
    _gpu(findings)
    for path in chosen.nvme_path:
        _drive(findings, path)
    if not chosen.nvme_path:
        findings.say("drives", "none looked at: name a directory on one with --nvme_path")
    width = max(len(name) for name, _ in findings.lines)
    for name, value in findings.lines:
        print(f"{name.ljust(width)}  {value}")
    for problem, remedy in findings.problems:
        print(f"\nproblem: {problem}\n    fix: {remedy}")
    return 1 if findings.problems else 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _versions(findings: Findings) -> None:
    built = _native.build_info()
    findings.say(
        "orlop", f"{built['version']} ({built['compiler']}), CUDA {'built in' if built['cuda'] else 'left out'}"
    )
    findings.say("torch", f"{torch.__version__}, Python {sys.version.split()[0]}")
    findings.say("system", f"{platform.system()} {platform.release()} {platform.machine()}")


def _processor(findings: Findings) -> None:
    isa = _native.build_info()["isa"]
    model = next(
        (line.partition(":")[2].strip() for line in _read("/proc/cpuinfo").splitlines() if "model name" in line), "?"
    )
    usable = len(os.sched_getaffinity(0))
    nodes = len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or 1
    findings.say("processor", f"{model}, {usable} of {os.cpu_count()} logical processors usable, {nodes} NUMA node(s)")
    findings.say("kernels", isa)
    if isa == "scalar" and platform.machine() == "x86_64":
        findings.complain(
            "the optimizer runs its scalar kernels, several times slower than AVX2",
            "use a processor with AVX2, or pass its features through to this virtual machine (QEMU: -cpu host)",
        )
    if os.environ.get("ORLOP_CPU"):
        findings.complain(f"ORLOP_CPU={os.environ['ORLOP_CPU']} forces the kernels", "unset ORLOP_CPU")


def _memory(findings: Findings) -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read("/sys/fs/cgroup/memory.max")
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    said = "unlimited" if soft == resource.RLIM_INFINITY else size(soft)
    group = f", {size(int(limit))} for this container" if limit.isdigit() else ""
    findings.say("memory", f"{size(total)}{group}; locked memory: {said}")
    if soft != resource.RLIM_INFINITY and soft < _SMALL_MEMLOCK:
        findings.complain(
            f"only {said} may be locked: buffers are not registered with the drive's queue, which costs processor time",
            "ulimit -l unlimited   (in a container: --ulimit memlock=-1)",
        )
    huge = _read("/sys/kernel/mm/transparent_hugepage/enabled")
    findings.say("huge pages", huge or "not known")
    if "[never]" in huge:
        findings.complain(
            "transparent huge pages are off: large arrays cost more address translation",
            "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
        )


def _queues(findings: Findings) -> None:
    queues = _native.build_info()["queues"]
    findings.say("I/O queues", ", ".join(queues))
    if "uring" not in queues:
        disabled = _read("/proc/sys/kernel/io_uring_disabled")
        findings.complain(
            "io_uring cannot be used"
            + (f" (kernel.io_uring_disabled is {disabled})" if disabled not in ("", "0") else ""),
            "sudo sysctl kernel.io_uring_disabled=0   (in a container: allow io_uring in its seccomp profile)",
        )


def _gpu(findings: Findings) -> None:
    if not torch.cuda.is_available():
        findings.say("GPU", "none: parameters stay in host memory")
        return
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        findings.say(f"GPU {index}", f"{about.name}, {size(about.total_memory)}")
    if not _native.build_info()["cuda"]:
        findings.complain("there is a GPU, but Orlop was built without CUDA", "install nvcc, then ./dev build again")


def _drive(findings: Findings, path: Path) -> None:
    if not path.is_dir():
        findings.complain(f"{path} is no directory", f"mkdir -p {path}")
        return
    findings.say(f"drive {path}", f"{size(shutil.disk_usage(path).free)} free")
    try:
        about = _measured(path)
    except OrlopError as error:
        findings.complain(str(error), "see the sentence")
        return
    drive = about["states"]
    calibration = drive["calibration"]
    findings.say(
        "  access", f"{drive['access']}, aligned to {drive['alignment']['offset']} bytes, queue {drive['queue']}"
    )
    findings.say(
        "  measured",
        f"read {calibration['read_gb_s']:.2f} GB/s, write {calibration['write_gb_s']:.2f} GB/s "
        f"({calibration['origin']}; requests of {size(drive['read_request_bytes'])}, {drive['depth']} at once)",
    )
    if drive["access"] != "direct":
        findings.complain(
            f"{path}: its filesystem has no direct I/O: every byte goes through the page cache",
            "put nvme_path on ext4 or xfs on the drive itself",
        )


def _measured(path: Path) -> dict[str, Any]:
    """What an engine with a store there says of the drive."""
    model = nn.Module()
    model.weight = nn.Parameter(torch.zeros(_MEASURED_PARAMS, dtype=torch.float32))
    offload = {"device": "nvme", "nvme_path": str(path.resolve())}
    with initialize(model=model, config={"zero_optimization": {"stage": 3, "offload_optimizer": offload}})[0] as engine:
        return engine.describe()
