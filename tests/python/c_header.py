"""Reads orlop.h: its enumerations, structs and functions. A parser for that header's own plain style, no more."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PATH = Path(__file__).resolve().parents[2] / "include" / "orlop" / "orlop.h"


@dataclass
class Header:
    constants: dict[str, int]  # of enumerations
    structs: dict[str, list[tuple[str, str]]]  # name: (field, C type)
    functions: dict[str, tuple[str, list[str]]]  # name: (C type returned, C types of arguments)
    version: tuple[int, ...]


def read() -> Header:
    raw = PATH.read_text()
    text = re.sub(r"/\*.*?\*/", " ", raw, flags=re.S)
    text = re.sub(r"^\s*#.*$", " ", text, flags=re.M)
    return Header(_constants(text), _structs(text), _functions(text), _version(raw))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"#define ORLOP_VERSION_\w+ (\d+)", text))


def _constants(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for body in re.findall(r"enum\s*\w*\s*\{([^}]*)\}", text):
        following = 0
        for item in filter(None, map(str.strip, body.split(","))):
            name, _, value = (part.strip() for part in item.partition("="))
            found[name] = int(value.rstrip("uU"), 0) if value else following
            following = found[name] + 1
    return found


def _structs(text: str) -> dict[str, list[tuple[str, str]]]:
    return {
        name: [_declaration(item) for item in filter(None, map(str.strip, body.split(";")))]
        for name, body in re.findall(r"typedef struct (\w+) \{([^}]*)\}", text)
    }


def _declaration(text: str) -> tuple[str, str]:
    """The name and type of "const char *name"."""
    found = re.fullmatch(r"(.*?)(\w+)", text.strip(), flags=re.S)
    assert found, text
    return found[2], _type(found[1])


def _type(text: str) -> str:
    return re.sub(r"\s*\*\s*", "*", " ".join(text.split())).strip()


def _functions(text: str) -> dict[str, tuple[str, list[str]]]:
    found = {}
    for result, name, arguments in re.findall(r"ORLOP_API\s+([\w\s*]+?)\s*(\w+)\(([^)]*)\);", text):
        given = [] if arguments.strip() == "void" else [_declaration(item)[1] for item in arguments.split(",")]
        found[name] = (_type(result), given)
    return found
