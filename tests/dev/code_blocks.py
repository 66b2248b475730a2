"""The fenced code blocks of a Markdown file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^(?:<!-- not run: ([^\n]+) -->\n+)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    file: Path
    line: int
    language: str
    text: str
    not_run: str | None  # the reason, where a comment before the block gives one


def blocks_of(file: Path) -> list[Block]:
    text = file.read_text()
    return [
        Block(file, text.count("\n", 0, found.start(3)) + 1, found[2], found[3], found[1])
        for found in FENCE.finditer(text)
    ]


def c_program_of(file: Path) -> str:
    """The C blocks of a document are one program, each with its own line numbers."""
    parts = (f'#line {block.line} "{file.name}"\n{block.text}' for block in blocks_of(file) if block.language == "c")
    return "\n".join(parts)
