"""`orlop import` and `orlop export` take little memory, however large a model or one of its tensors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from import_test import entry, stored

MIB = 1 << 20
ALLOWED = 64 * MIB
PROGRAM = """
import sys
import orlop
from orlop.cli.main import main

def peak():
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

before = peak()
status = main(sys.argv[1:])
print(peak() - before)
sys.exit(status)
"""


def peak_growth(*arguments: str | Path) -> int:
    """By how many bytes the process grows at most, beyond what Python and torch take."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A model of 600 MiB, most of it one tensor; its file takes no room, for it has nothing but zeros."""
    sizes = {"embedding": 512 * MIB, "first": 44 * MIB, "second": 44 * MIB}
    header, begin = {}, 0
    for name, size in sizes.items():
        header[name] = entry(begin, begin + size)
        begin += size
    file = tmp_path / "large.safetensors"
    file.write_bytes(stored(header, 0))
    with file.open("r+b") as sparse:
        sparse.truncate(file.stat().st_size + begin)
    return file


def test_they_stay_within_their_memory(large: Path, tmp_path: Path) -> None:
    assert peak_growth("import", large, tmp_path / "start") < ALLOWED
    assert peak_growth("export", tmp_path / "start", tmp_path / "weights", "--dtype", "bf16") < ALLOWED
    (tmp_path / "weights" / "model.safetensors").unlink()
    assert peak_growth("export", "--full", tmp_path / "start", tmp_path / "whole") < ALLOWED
    for path in tmp_path.glob("*/*"):
        path.unlink()
