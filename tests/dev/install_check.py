"""Installs into an empty root and builds and runs the program of docs/embedding.md and examples/mlp.cpp against it, as
a user would with pkg-config.

usage: install_check.py SOURCE_ROOT BUILD_ROOT
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from code_blocks import c_program_of  # noqa: E402


def run(*command: str | Path, **options: object) -> str:
    done = subprocess.run(list(map(str, command)), text=True, capture_output=True, **options)
    if done.returncode != 0:
        said = f"{done.stdout}{done.stderr}"
        sys.exit(f"install: {shlex.join(map(str, command))} exited with {done.returncode}:\n{said}")
    return done.stdout


def installed(build: Path, root: Path) -> list[Path]:
    run("meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", root)
    return [path for path in root.rglob("*") if not path.is_dir()]


def one(files: list[Path], name: str) -> Path:
    found = [file for file in files if file.name == name]
    if len(found) != 1:
        sys.exit(f"install: {len(found)} files named {name} among {[str(file) for file in files]}, not one")
    return found[0]


def check_program(source: Path, files: list[Path], root: Path, folder: Path) -> None:
    """`folder` is where the program is built, run, and keeps its store."""
    environment = {**os.environ, "PKG_CONFIG_SYSROOT_DIR": str(root),
                   "PKG_CONFIG_PATH": str(one(files, "orlop.pc").parent),
                   "LD_LIBRARY_PATH": str(one(files, "liborlop.so").parent)}
    flags = run("pkg-config", "--cflags", "--libs", "orlop", env=environment)
    (folder / "train.c").write_text(c_program_of(source / "docs/embedding.md"))
    compiler = shlex.split(os.environ.get("CC", "cc"))
    run(*compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "train.c", "-o", "train", *shlex.split(flags),
        cwd=folder, env=environment)
    print(said := run(folder / "train", cwd=folder, env=environment), end="")
    losses = [float(line.split()[-1]) for line in said.splitlines() if ", loss " in line]
    if len(losses) < 2 or not losses[-1] < losses[0] / 10:
        sys.exit(f"install: the program of docs/embedding.md should bring its loss down; it printed\n{said}")
    shutil.rmtree(folder / "orlop")  # kept for the checkpoint that it saved
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    run(*compiler, "-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", source / "examples/mlp.cpp", "-o", "mlp",
        *shlex.split(flags), cwd=folder, env=environment)
    print(said := run(folder / "mlp", folder, cwd=folder, env=environment), end="")  # fails unless it has learnt
    if "update 2000: " not in said:
        sys.exit(f"install: examples/mlp.cpp should have trained 2000 updates; it printed\n{said}")
    if left := [path for path in folder.rglob("*.store")]:
        sys.exit(f"install: a program left its store behind: {left}")


def main(source: Path, build: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="orlop-install-") as folder:
        root, work = Path(folder, "root"), Path(folder, "work")
        work.mkdir()
        files = installed(build, root)
        one(files, "orlop.h")
        one(files, "orlop.hpp")
        if (build / "bench/offload_bench").exists():
            run(one(files, "offload_bench"), "--help")
        check_program(source, files, root, work)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
