#!/usr/bin/env python3
"""Asks an nvcc where its toolkit is and whether it works with this machine's compiler; for meson.

Prints four lines: release, include directories, library directories, GPU architectures to build
for (lists are separated by semicolons). Exits 1 with the reason on standard error when this nvcc
cannot compile our kernels.
"""
import pathlib
import re
import subprocess
import sys
import tempfile

WANTED = [80, 90, 100]  # A100, H100/H200, B200; newer ones take the PTX of the last
PROBE = """
#include <cstdint>
template <typename T> concept Small = sizeof(T) <= 8;
template <Small T> __global__ void probe(T* out) { *out = static_cast<T>(1); }
int launch(double* out) { probe<<<1, 1>>>(out); return static_cast<int>(cudaGetLastError()); }
"""


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}: "
                 f"{(done.stderr or done.stdout).strip()}")
    return done.stdout + done.stderr  # --dryrun writes to standard error


def directories(dryrun: str, variables: str, flag: str) -> list[str]:
    """The directories behind `flag` in lines like: #$ LIBRARIES=  "-L/a/lib/stubs" "-L/a/lib"."""
    lines = re.findall(rf"^#\$ (?:{variables})=(.*)$", dryrun, re.MULTILINE)
    found = re.findall(rf'{flag}"?\s*"?([^"\s]+)"?', " ".join(lines))
    return [str(pathlib.Path(path).resolve()) for path in found if not path.endswith("/stubs")]


def main() -> None:
    nvcc = sys.argv[1]
    release = re.search(r"release ([\d.]+)", run(nvcc, "--version"))
    known = {int(number) for number in re.findall(r"sm_(\d+)\b", run(nvcc, "--list-gpu-code"))}
    archs = [arch for arch in WANTED if arch in known]
    if release is None or not archs:
        sys.exit(f"{nvcc}: release {release and release.group(1)} knows none of sm_{WANTED}")
    with tempfile.TemporaryDirectory() as directory:
        source = pathlib.Path(directory, "probe.cu")
        source.write_text(PROBE, encoding="ascii")
        run(nvcc, "-std=c++20", f"-arch=sm_{archs[0]}", "-c", str(source), "-o",
            f"{directory}/probe.o")
        dryrun = run(nvcc, "--dryrun", "-c", str(source), "-o", f"{directory}/probe.o")
    print(release.group(1))
    print(";".join(directories(dryrun, "INCLUDES|SYSTEM_INCLUDES", "-I")))
    print(";".join(directories(dryrun, "LIBRARIES", "-L")))
    print(";".join(str(arch) for arch in archs))


main()
