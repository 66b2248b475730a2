"""Every code block of the documents is tried. The README's C program is the `install` test's (install_check.py)."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from code_blocks import Block, blocks_of

ROOT = Path(__file__).parents[2]
BUILD = Path(os.environ["ORLOP_LIBRARY"]).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]


def where(block: Block) -> str:
    return f"{block.file.name}:{block.line}"


def blocks(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def commands(block: Block) -> Iterator[list[str]]:
    """The commands of a shell block, one after the other, `&&` taken apart."""
    for line in block.text.replace("\\\n", " ").splitlines():
        for command in line.split("&&"):
            if words := shlex.split(command, comments=True):
                yield words


SHELL = [(where(block), words) for block in blocks("sh") for words in commands(block)]


def test_every_language_is_tried() -> None:
    assert {block.language for block in BLOCKS} <= {"c", "json", "python", "sh", "text"}


@pytest.mark.parametrize("block", blocks("python"), ids=where)
def test_python_runs(block: Block, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", block.text], text=True, capture_output=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*.store")) == []


@pytest.mark.parametrize("block", blocks("json"), ids=where)
def test_configurations_are_understood(block: Block) -> None:
    import orlop

    assert not [note for note in orlop.Config(block.text).notes if "unknown" in note]


@pytest.mark.parametrize(("place", "words"), [row for row in SHELL if row[1][0] == "./dev"])
def test_commands_of_dev_exist(place: str, words: list[str]) -> None:
    assert re.search(rf"^  {words[1]} ", subprocess.check_output([ROOT / "dev", "help"], text=True), re.MULTILINE), place


@pytest.mark.parametrize(("place", "words"), [row for row in SHELL if row[1][:2] == ["./dev", "bench"]])
def test_arguments_of_offload_bench_exist(place: str, words: list[str]) -> None:
    arguments = words[2:]
    subcommand = [arguments.pop(0)] if not arguments[0].startswith("-") else ["step"]
    described = subprocess.check_output([BUILD / "bench/offload_bench", *subcommand, "--help"], text=True)
    for option in (word for word in arguments if word.startswith("--") and word != "--help"):
        assert re.search(rf"{option}\b", described), f"{place}: {option}"


@pytest.mark.parametrize(("place", "words"), [row for row in SHELL if row[1][0] == "meson"])
def test_options_of_meson_exist(place: str, words: list[str]) -> None:
    own = (ROOT / "meson_options.txt").read_text()
    for name in re.findall(r"-D(\w+)=", " ".join(words)):
        assert name in ("b_sanitize", "b_lundef") or f"option('{name}'" in own, f"{place}: {name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#\w+)?\)", document.read_text()):
        assert (document.parent / target).exists(), target
