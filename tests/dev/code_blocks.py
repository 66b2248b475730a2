"""The fenced code blocks of a Markdown file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    file: Path
    line: int
    language: str
    text: str


def blocks_of(file: Path) -> list[Block]:
    text = file.read_text()
    return [Block(file, text[: found.start()].count("\n") + 2, *found.groups()) for found in FENCE.finditer(text)]
