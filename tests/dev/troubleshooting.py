"""The part of docs/troubleshooting.md that comes from the sources: every sentence, by area, with its status."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from cpp_sentences import cpp_sentences
from python_sentences import python_sentences
from remedies import REMEDIES
from sentence import Sentence

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/troubleshooting.md"
BEGIN, END = "<!-- messages: begin -->\n", "<!-- messages: end -->\n"
CPP = ("src/**/*.cpp", "src/**/*.hpp", "kernels/**/*.cu", "kernels/**/*.hpp")
LEVELS = ("debug", "info", "warning", "error", "note")


def sources(*patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def exceptions() -> dict[str, tuple[str, str]]:
    """Of errors.py: each class with its status and what it means."""
    found = {}
    for node in ast.parse((ROOT / "python/orlop/errors.py").read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name != "OrlopError":
            (status,) = (ast.unparse(item.value) for item in node.body if isinstance(item, ast.Assign))
            found[node.name] = (status.replace("Status.", "ORLOP_"), ast.get_docstring(node) or "")
    return found


def all_sentences() -> list[Sentence]:
    """With the status in place of Python's exceptions; those of other libraries' classes are not ours."""
    statuses = {name: status for name, (status, _) in exceptions().items()} | {level: level for level in LEVELS}
    found = {sentence for path in sources(*CPP) for sentence in cpp_sentences(path.read_text())}
    for path in sources("python/orlop/**/*.py"):
        for said in python_sentences(path.read_text()):
            if said.kind in statuses:
                found.add(Sentence(said.text, statuses[said.kind]))
            elif said.fix:
                found.add(said)
    return sorted(found, key=lambda sentence: (sentence.area, sentence))


def span(text: str) -> str:
    """A Markdown code span."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def lines_of(sentence: Sentence) -> Iterator[str]:
    yield f"- {span(sentence.text)} ({sentence.kind})"
    if sentence.fix:
        yield f"  Fix: {span(sentence.fix)}"
    if sentence.text in REMEDIES:
        yield f"  {REMEDIES[sentence.text]}"


def messages() -> str:
    lines = ["| status | Python's exception | |", "|---|---|---|"]
    lines += [f"| `{status}` | `{name}` | {meaning} |" for name, (status, meaning) in exceptions().items()]
    for area, sentences in groupby(all_sentences(), key=lambda sentence: sentence.area):
        lines += ["", f"### {area or 'Begins with what was being done'}", ""]
        lines += [line for sentence in sentences for line in lines_of(sentence)]
    return "\n".join(lines) + "\n"


def page(committed: str) -> str:
    """The page with its generated part made anew."""
    before, _, rest = committed.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "\n" + messages() + "\n" + END + after
