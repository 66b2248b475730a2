#!/usr/bin/env python3
"""Every header compiles alone, with the flags that its folder has in the build.

usage: headers.py ROOT BUILD
Prints the compiler's words for each that does not, and exits 1 if there is one.

A header that is the first include of its own source (arena.hpp of arena.cpp) is proven by the
build. One whose own source is not in this build (no CUDA, no liburing) is left out, and named.
Standard library only.
"""
import concurrent.futures
import json
import pathlib
import re
import shlex
import subprocess
import sys

FOLDERS = ["include", "src", "kernels", "bench"]
JOBS = 2
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


def flags_of(entry):
    """A compile command without its input, its outputs and its dependency file."""
    words, skip = [], False
    for word in shlex.split(entry["command"]):
        if skip:
            skip = False
        elif word in ("-o", "-MF", "-MQ", "-MT"):
            skip = True
        elif word not in ("-c", "-MD", entry["file"]):
            words.append(word)
    return words


class Build:
    """What a build folder compiles, and how."""

    def __init__(self, root, folder):
        self.root, self.folder = root, folder
        self.flags = {}  # of one C++ file of each folder
        self.sources = set()
        for entry in json.loads((folder / "compile_commands.json").read_text(encoding="utf-8")):
            source = (folder / entry["file"]).resolve()
            if source.suffix == ".cpp" and source.is_relative_to(root):
                self.sources.add(source)
                self.flags.setdefault(source.parent, flags_of(entry))

    def name_of(self, header):
        """As includes write it: relative to include/, src/ or the root."""
        return re.sub(r"^(include|src)/", "", header.relative_to(self.root).as_posix())

    def is_left_out(self, header):
        """Whether the header has a source of its own that this build does not have."""
        source = header.with_suffix(".cpp")
        return source.exists() and source not in self.sources

    def is_proven(self, header):
        """Whether the header's own source, which is built, includes it before anything else."""
        source = header.with_suffix(".cpp")
        if source not in self.sources:
            return False
        first = INCLUDE.search(source.read_text(encoding="utf-8"))
        return first is not None and first[1] == self.name_of(header)

    def compile_alone(self, header):
        """The compiler's words, or None if it is content."""
        flags = self.flags.get(header.parent, self.flags[self.root / "src/base"])
        name = self.name_of(header)
        done = subprocess.run([*flags, "-fsyntax-only", "-x", "c++", "-"], cwd=self.folder,
                              input=f'#include "{name}"\n', capture_output=True, text=True,
                              check=False)
        return None if done.returncode == 0 else f"{name} does not compile alone:\n{done.stderr}"


def main():
    root, folder = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
    build = Build(root, folder)
    headers = sorted(header for name in FOLDERS for suffix in ("*.h", "*.hpp")
                     for header in (root / name).rglob(suffix))
    left_out = [header for header in headers if build.is_left_out(header)]
    proven = [header for header in headers if build.is_proven(header)]
    to_compile = [header for header in headers if header not in left_out and header not in proven]
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        said = list(pool.map(build.compile_alone, to_compile))
    failures = [words for words in said if words is not None]
    print(*failures, sep="\n")
    print(f"{len(headers)} headers: {len(proven)} proven by their source, "
          f"{len(to_compile)} compiled, "
          f"{len(failures)} do not compile alone, "
          f"left out: {', '.join(build.name_of(header) for header in left_out) or 'none'}")
    sys.exit(1 if failures or not proven + to_compile else 0)


if __name__ == "__main__":
    main()
