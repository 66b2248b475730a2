"""A sentence that Orlop can say, as docs/troubleshooting.md shows it."""

from __future__ import annotations

import re
from dataclasses import dataclass

GAP = "…"  # stands for what differs from one time to the next


@dataclass(frozen=True, order=True)
class Sentence:
    text: str
    kind: str  # the status or exception it comes with, or the level it is logged at
    fix: str = ""  # what the program says itself on another line

    @property
    def area(self) -> str:
        """What stands before the first colon, without names and numbers; "" where that differs."""
        if ":" not in self.text or self.text.startswith(GAP):
            return ""
        return re.sub(rf" ?[\"']?{GAP}[\"']?", "", self.text.partition(":")[0])


def joined(text: str) -> str:
    """Gaps that touch are one."""
    return re.sub(rf"{GAP}+", GAP, text).strip()


def says_something(text: str) -> bool:
    """Whether it is more than what others have said, handed on."""
    return re.search(r"[A-Za-z(]", text) is not None
