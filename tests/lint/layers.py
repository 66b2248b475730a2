#!/usr/bin/env python3
"""Who may include whom: the arrows of docs/design.md, as a check. Standard library only.

usage: layers.py ROOT     prints every line that breaks a rule, and exits 1 if there is one
"""
import pathlib
import re
import sys

# A folder may include itself, the public header and these.
MAY_INCLUDE = {
    "base": set(),
    "numa": {"base"},
    "aio": {"numa", "base"},
    "kernels": {"base"},
    "comm": {"base"},
    "device": {"kernels", "base"},
    "cpu_adam": {"numa", "base", "kernels"},
    "swap": {"aio", "numa", "base"},
}
MAY_INCLUDE["zero3"] = set(MAY_INCLUDE)
MAY_INCLUDE["capi"] = set(MAY_INCLUDE)
MAY_INCLUDE["bench"] = set(MAY_INCLUDE) - {"capi"}

# Headers of others, and the folders that know them. What is not listed is free.
KNOWN_BY = {
    r"hwloc(/|\.h)": {"numa"},
    r"liburing|libaio|linux/(io_uring|aio_abi)": {"aio", "bench"},
    r"(oneapi/)?tbb/": {"cpu_adam"},
    r"spdlog/": {"base", "bench"},
    r"cuda": {"device", "kernels"},
    r"(nccl|mpi)\.h": {"comm"},
    r".mmintrin\.h": {"cpu_adam", "kernels", "bench"},
    r"torch/|ATen/|Python\.h": set(),
}

SUFFIXES = {".hpp", ".cpp", ".h", ".cu", ".cuh"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def folders(root):
    """(layer, directory) of everything that has a layer."""
    for directory in sorted((root / "src").iterdir()):
        if directory.is_dir():
            yield directory.name, directory
    for name in ("kernels", "bench"):
        if (root / name).is_dir():
            yield name, root / name


def complaint_about_ours(layer, path):
    """What is wrong with `#include "path"` in a file of `layer`; None if nothing is."""
    parts = path.split("/")
    if ".." in parts:
        return "includes are relative to src/, without '..'"
    if len(parts) == 1:
        return None if layer == "bench" else "includes are relative to src/: name the folder"
    target = parts[0]
    if target in (layer, "orlop"):
        return None
    if target not in MAY_INCLUDE:
        return f"{target} is no layer"
    if target not in MAY_INCLUDE[layer]:
        allowed = ", ".join(sorted(MAY_INCLUDE[layer])) or "no other layer"
        return f"{layer} may not include {target}; it may include {allowed}"
    return None


def complaint_about_others(layer, path):
    """What is wrong with `#include <path>`."""
    for pattern, known_by in KNOWN_BY.items():
        if re.match(pattern, path) and layer not in known_by:
            return f"{layer} does not know <{path}>; {', '.join(sorted(known_by)) or 'nobody'} does"
    return None


def complaints(root):
    """Every offence under `root`, as 'file:line: text: why'."""
    found = []
    for layer, directory in folders(root):
        if layer not in MAY_INCLUDE:
            found.append(f"{directory.relative_to(root)}: no layer of docs/design.md; "
                         "add it there and here")
            continue
        for file in sorted(directory.rglob("*")):
            if file.suffix not in SUFFIXES:
                continue
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                match = INCLUDE.match(line)
                if match is None:
                    continue
                check = complaint_about_ours if match[1] == '"' else complaint_about_others
                why = check(layer, match[2])
                if why is not None:
                    found.append(f"{file.relative_to(root)}:{number}: {line.strip()}: {why}")
    return found


if __name__ == "__main__":
    offences = complaints(pathlib.Path(sys.argv[1]))
    print("\n".join(offences))
    sys.exit(1 if offences else 0)
