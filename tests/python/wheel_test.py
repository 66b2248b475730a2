"""The wheel, in an environment that has torch and nothing of ours: it installs and trains without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TRAIN = """
import torch, orlop
model = torch.nn.Linear(64, 64)
zero = {"stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": "."}}
with orlop.initialize(model=model, config={"zero_optimization": zero})[0] as engine:
    for _ in range(3):
        engine.backward(engine(torch.randn(4, 64)).square().mean())
        engine.step()
    print("updates", engine.global_steps)
bundled = ("libtbb", "libhwloc", "liburing", "libaio", "libspdlog", "libfmt", "liborlop")
for line in open("/proc/self/maps"):
    path = line.split()[-1]
    if any(name in path.rpartition("/")[2] for name in bundled):
        print("library", path)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel; torch and its like come from this one."""
    folder = tmp_path_factory.mktemp("wheel")
    made = subprocess.run([ROOT / "dev", "wheel", folder / "dist"], text=True, capture_output=True)
    assert made.returncode == 0, made.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    assert wheel.name.startswith("orlop-") and "-py3-none-manylinux" in wheel.name
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "clean"], check=True)
    python = folder / "clean" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, env=_without_orlop())
    (site,) = (folder / "clean").glob("lib/python*/site-packages")
    (site / "torch-from-there.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "clean"


def _without_orlop() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "ORLOP_LIBRARY")}


def run(environment: Path, folder: Path, *command: str) -> str:
    program = environment / "bin" / command[0]
    given = _without_orlop() | {"PATH": "", "XDG_CACHE_HOME": str(folder)}
    done = subprocess.run([program, *command[1:]], text=True, capture_output=True, cwd=folder, env=given)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_trains_with_its_own_libraries(environment: Path, tmp_path: Path) -> None:
    said = run(environment, tmp_path, "python", "-c", TRAIN)
    assert "updates 3" in said
    libraries = {line.split()[1] for line in said.splitlines() if line.startswith("library")}
    assert any(path.endswith("liborlop.so") for path in libraries) and len(libraries) >= 5
    assert all(path.startswith(str(environment)) for path in libraries), libraries


def test_its_command_is_there(environment: Path, tmp_path: Path) -> None:
    assert "doctor" in run(environment, tmp_path, "orlop", "--help")
    assert "parameters in" in run(environment, tmp_path, "python", "-m", "orlop", "plan", "--params", "1B")


def test_it_has_deepspeeds_names(environment: Path, tmp_path: Path) -> None:
    look = "import deepspeed, importlib.metadata as m; print(deepspeed.__orlop__, m.version('deepspeed'))"
    orlop, _, claimed = run(environment, tmp_path, "orlop", "run", "python", "-c", look).strip().partition(" ")
    assert orlop and claimed.endswith("+orlop")
    script = tmp_path / "train.py"
    script.write_text(look)
    run(environment, tmp_path, "orlop", "compat", "enable", "--deepspeed-version", "0.16.8")
    assert run(environment, tmp_path, "deepspeed", "--no_local_rank", str(script)) == f"{orlop} 0.16.8+orlop\n"
    run(environment, tmp_path, "orlop", "compat", "disable")
    assert "none of ours" in run(environment, tmp_path, "orlop", "compat", "status")
