"""Every code block of the documents is run, or says in a comment before it why not: <!-- not run: REASON -->."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from code_blocks import Block, blocks_of, c_program_of

ROOT = Path(__file__).parents[2]
LIBRARY = Path(os.environ["ORLOP_LIBRARY"]).resolve()
BUILD = Path(os.environ["ORLOP_LIBRARY"]).absolute().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [block for document in DOCUMENTS for block in blocks_of(document)]
MANY = 15  # blocks that are not run: a new one is worth a thought

# What a shell block finds: the directory it names, a checkpoint, a profile, and the repository's files.
TRAINED = """
import orlop, torch
config = {"optimizer": {"type": "AdamW"}, "orlop": {"profile": "deepspeed_profile.json"},
          "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "nvme", "nvme_path": "local_nvme"}}}
with orlop.initialize(model=torch.nn.Linear(64, 64), config=config)[0] as engine:
    for _ in range(3):
        engine.backward(engine(torch.randn(4, 64)).square().mean())
        engine.step()
    engine.save_checkpoint("checkpoints")
"""
# `doctor` ends with 1 when it finds problems, which is this machine's business.
DEV = f"""#!/bin/sh
if [ "$1 $2" = "orlop doctor" ]; then {ROOT}/dev "$@" || [ $? = 1 ]; exit; fi
exec {ROOT}/dev "$@"
"""


def where(block: Block) -> str:
    return f"{block.file.name}:{block.line}"


def name_of(document: Path) -> str:
    return document.name


def blocks(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language and not block.not_run]


def documents_with(language: str) -> list[Path]:
    return [document for document in DOCUMENTS if any(block.file == document for block in blocks(language))]


def commands(block: Block) -> Iterator[list[str]]:
    """The commands of a shell block, one after the other, `&&` taken apart."""
    for line in block.text.replace("\\\n", " ").splitlines():
        for command in line.split("&&"):
            if words := shlex.split(command, comments=True):
                yield words


SHELL = [(where(block), words) for block in BLOCKS if block.language == "sh" for words in commands(block)]


def test_every_language_is_tried() -> None:
    assert {block.language for block in BLOCKS} <= {"c", "json", "python", "sh", "text"}


def test_few_blocks_are_not_run_and_only_of_the_shell() -> None:
    left_out = [block for block in BLOCKS if block.not_run]
    assert {block.language for block in left_out} == {"sh"}
    assert len(left_out) <= MANY, [where(block) for block in left_out]
    for document in DOCUMENTS:
        marks = re.findall(r"^<!-- not run:", document.read_text(), re.MULTILINE)
        marked = [block for block in left_out if block.file == document]
        assert len(marks) == len(marked), f"{document.name}: a mark before no block"


@pytest.mark.parametrize("block", blocks("python"), ids=where)
def test_python_runs(block: Block, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", block.text], text=True, capture_output=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*.store")) == []


@pytest.mark.parametrize("block", blocks("json"), ids=where)
def test_configurations_are_understood(block: Block) -> None:
    import orlop

    assert not [note for note in orlop.Config(block.text).notes if "unknown" in note]


@pytest.mark.parametrize("document", documents_with("c"), ids=name_of)
def test_c_blocks_are_a_program_that_runs(document: Path, tmp_path: Path) -> None:
    (tmp_path / "program.c").write_text(c_program_of(document))
    compiler = shlex.split(os.environ.get("CC", "cc"))
    command = [*compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "program.c", f"-I{ROOT / 'include'}", str(LIBRARY),
               f"-Wl,-rpath,{LIBRARY.parent}", "-o", "program"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    done = subprocess.run(["./program"], text=True, capture_output=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "loaded the same bits" in done.stdout


def test_the_page_on_embedding_has_every_call() -> None:
    """In its program, not only in its prose."""
    header = (ROOT / "include/orlop/orlop.h").read_text()
    declared = re.findall(r"^ORLOP_API [^;(]*?\b(orlop_\w+)\(", header, re.MULTILINE)
    program = c_program_of(ROOT / "docs/embedding.md")
    assert len(declared) >= 40
    missing = [name for name in declared if not re.search(rf"\b{name}\b", program)]
    assert not missing, f"docs/embedding.md does not use {missing}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "local_nvme").mkdir()
    subprocess.run([sys.executable, "-c", TRAINED], cwd=folder, check=True, timeout=300)
    return folder


@pytest.fixture
def clone(trained: Path, tmp_path: Path) -> Iterator[Path]:
    """Looks like a clone in which something has been trained."""
    folder = tmp_path / "clone"
    shutil.copytree(trained, folder)
    for name in ("README.md", "configs", "docs", "examples"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "dev").write_text(DEV)
    (folder / "dev").chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("document", documents_with("sh"), ids=name_of)
def test_commands_run(document: Path, clone: Path) -> None:
    """The shell blocks of a document, one after the other in one place."""
    for block in blocks("sh"):
        if block.file == document:
            script = block.text.replace("/local_nvme", str(clone / "local_nvme"))
            bash = ["bash", "-euo", "pipefail", "-c", script]
            calm = {**os.environ, "OMP_NUM_THREADS": "1"}  # torch's threads wait for each other on a busy machine
            done = subprocess.run(bash, text=True, capture_output=True, cwd=clone, env=calm, timeout=600)
            assert done.returncode == 0, f"{where(block)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


@pytest.mark.parametrize(("place", "words"), [row for row in SHELL if row[1][0] == "./dev"])
def test_commands_of_dev_exist(place: str, words: list[str]) -> None:
    assert re.search(rf"^  {words[1]} ", subprocess.check_output([ROOT / "dev", "help"], text=True), re.MULTILINE), place


@pytest.mark.parametrize(("place", "words"), [row for row in SHELL if row[1][:2] == ["./dev", "bench"]])
def test_arguments_of_bench_exist(place: str, words: list[str]) -> None:
    arguments = words[2:]
    subcommand = [arguments.pop(0)] if not arguments[0].startswith("-") else ["step"]
    program: list[str | Path] = [BUILD / "bench/offload_bench", *subcommand]
    if subcommand == ["peers"]:
        program = [ROOT / "dev", "bench", "peers"]
    described = subprocess.check_output([*program, "--help"], text=True)
    for option in (word for word in arguments if word.startswith("--") and word != "--help"):
        assert re.search(rf"{option}\b", described), f"{place}: {option}"


@pytest.mark.parametrize(("place", "words"), [row for row in SHELL if row[1][0] == "meson"])
def test_options_of_meson_exist(place: str, words: list[str]) -> None:
    own = (ROOT / "meson_options.txt").read_text()
    for name in re.findall(r"-D(\w+)=", " ".join(words)):
        assert name in ("b_sanitize", "b_lundef") or f"option('{name}'" in own, f"{place}: {name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#\w+)?\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert f"(docs/{page.name})" in readme, page.name
