"""The Python environment of the workers: torch, DeepSpeed and what Orlop needs, in a folder beside the checkout.

Made once: some minutes of downloading, and of compiling what DeepSpeed compiles when first used. That is done here so
that no run waits for a compiler, and a failure is seen at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .errors import PeersError
from .progress import say

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".cache" / "peers"
# What DeepSpeed compiles for a processor alone: its Adam, its file I/O, its memory that cannot be paged out.
_COMPILED = ("AsyncIOBuilder", "CPUAdamBuilder", "FusedAdamBuilder", "PinMemoryBuilder")
_COMPILE = """
import sys
from deepspeed.accelerator import get_accelerator
for name in sys.argv[1:]:
    builder = get_accelerator().create_op_builder(name)
    if builder is not None:
        builder.load()
"""


def requirements(deepspeed: str) -> list[list[str]]:
    """What each call of pip installs. torch is installed by itself: its wheel is chosen by that spelling."""
    constraints = (ROOT / "python" / "constraints.txt").read_text()
    versions = dict(re.findall(r"^([\w-]+)==(\S+)$", constraints, re.MULTILINE))
    ours = [f"{name}=={versions[name]}" for name in ("numpy", "rich", "safetensors")]
    return [[f"torch=={versions['torch']}"], [*ours, deepspeed]]


def is_made() -> bool:
    return (FOLDER / "stamp").is_file()


def python() -> Path:
    return FOLDER / "bin" / "python"


def variables(threads: int | None = None) -> dict[str, str]:
    """What workers need: both packages' places, and DeepSpeed on processors."""
    variables = {
        "PATH": f"{FOLDER / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",  # its compiler's ninja
        "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), str(ROOT / "bench")]),
        "ORLOP_LIBRARY": os.environ.get("ORLOP_LIBRARY", str(ROOT / "build/src/capi/liborlop.so")),
        "DS_ACCELERATOR": "cpu",
        "TORCH_EXTENSIONS_DIR": str(FOLDER / "extensions"),
        "PYTHONWARNINGS": "ignore",
    }
    return variables | ({"OMP_NUM_THREADS": str(threads)} if threads else {})


@contextlib.contextmanager
def taken() -> Iterator[None]:
    """One run at a time has the environment: two would disturb each other's figures."""
    FOLDER.parent.mkdir(exist_ok=True)
    with (FOLDER.parent / "peers.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PeersError(f"environment: on {FOLDER}: another run has it; wait for its end") from None
        for left in FOLDER.glob(
            "extensions/*/lock"
        ):  # by a worker that was killed: DeepSpeed would wait for it forever
            left.unlink()
        yield


def make(deepspeed: str) -> None:
    """Does nothing where the environment is there with the same requirements."""
    calls = requirements(deepspeed)
    stamp = hashlib.sha256(repr((calls, sys.version_info[:2])).encode()).hexdigest()
    if is_made() and (FOLDER / "stamp").read_text() == stamp:
        return
    say("making the environment with torch and DeepSpeed in .cache/peers: once, some minutes")
    shutil.rmtree(FOLDER, ignore_errors=True)
    _run("python3 -m venv", [sys.executable, "-m", "venv", str(FOLDER)])
    for packages in calls:
        _run(f"pip install {packages[-1]}", [str(python()), "-m", "pip", "install", *packages], DS_BUILD_OPS="0")
    for name in _COMPILED:
        say(f"compiling DeepSpeed's {name.removesuffix('Builder')}")
        _run(f"compiling {name}", [str(python()), "-c", _COMPILE, name], must=False)
    (FOLDER / "stamp").write_text(stamp)


def versions() -> dict[str, str]:
    """Of what the workers import."""
    script = (
        "import importlib.metadata as m, sys; print(sys.version.split()[0], *map(m.version, ('torch', 'deepspeed')))"
    )
    done = subprocess.run([python(), "-c", script], text=True, capture_output=True, check=True)
    return dict(zip(("python", "torch", "deepspeed"), done.stdout.split(), strict=True))


def _run(what: str, command: list[str], must: bool = True, **extra: str) -> None:
    environment = {**os.environ, **variables(), "PIP_DISABLE_PIP_VERSION_CHECK": "1", **extra}
    done = subprocess.run(
        command, text=True, stdin=subprocess.DEVNULL, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode == 0:
        return
    print(done.stdout, file=sys.stderr)
    if must:
        raise PeersError(f"environment: {what} failed (exit status {done.returncode}); its output is above")
    say(f"{what} failed; its output is above; what needs it will say so in its cell")
