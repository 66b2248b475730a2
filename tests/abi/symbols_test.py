#!/usr/bin/env python3
"""The shared library exports exactly the functions that orlop.h declares."""
import re
import subprocess
import sys


def declared(header: str) -> set[str]:
    text = open(header, encoding="utf-8").read()
    return set(re.findall(r"ORLOP_API\s+[\w\s]+?\**\s*\**(orlop_\w+)\(", text))


def exported(nm: str, library: str) -> set[str]:
    lines = subprocess.run([nm, "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1].split("@")[0] for line in lines.splitlines()}


def main() -> int:
    nm, library, header = sys.argv[1:]
    want, have = declared(header), exported(nm, library)
    for name in sorted(want - have):
        print(f"declared in the header but not exported: {name}")
    for name in sorted(have - want):
        print(f"exported but not declared in the header: {name}")
    if len(want) < 20:
        print(f"only {len(want)} declarations were found in {header}: the test reads it wrongly")
        return 1
    return 0 if want == have else 1


if __name__ == "__main__":
    sys.exit(main())
