#!/usr/bin/env python3
"""Every header compiles alone, with the flags of the build that its folder has. Standard library only.

usage: headers.py ROOT BUILD     prints the compiler's words for each that does not, and exits 1 if there is one

A header that is the first include of its own source (arena.hpp of arena.cpp) is proven by the build.
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

    def is_proven(self, header):
        """Whether the header's own source, which is built, includes it before anything else."""
        source = header.with_suffix(".cpp")
        first = INCLUDE.search(source.read_text(encoding="utf-8")) if source in self.sources else None
        return first is not None and first[1] == self.name_of(header)

    def compile_alone(self, header):
        """The compiler's words, or None if it is content."""
        flags = self.flags.get(header.parent, self.flags[self.root / "src/base"])
        done = subprocess.run([*flags, "-fsyntax-only", "-x", "c++", "-"], cwd=self.folder, capture_output=True,
                              text=True, check=False, input=f'#include "{self.name_of(header)}"\n')
        return None if done.returncode == 0 else f"{self.name_of(header)} does not compile alone:\n{done.stderr}"


def main():
    root, folder = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
    build = Build(root, folder)
    headers = sorted(header for name in FOLDERS for suffix in ("*.h", "*.hpp")
                     for header in (root / name).rglob(suffix))
    to_compile = [header for header in headers if not build.is_proven(header)]
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        failures = [words for words in pool.map(build.compile_alone, to_compile) if words is not None]
    print(*failures, sep="\n")
    print(f"{len(headers)} headers: {len(headers) - len(to_compile)} proven by their source, {len(to_compile)} "
          f"compiled, {len(failures)} do not compile alone")
    sys.exit(1 if failures or not headers else 0)


if __name__ == "__main__":
    main()
