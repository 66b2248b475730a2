"""The King James Bible (Debian's bible-kjv and bible-kjv-text, public domain) as windows of tokens."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HELD_OUT_EVERY = 25  # of how many chapters one is held out


@dataclass
class Corpus:
    """Token windows of `length` + 1, so that each position has a next token. Both sets are disjoint chapters."""

    train: Tensor
    held_out: Tensor

    def batches(self, size: int, seed: int) -> Iterator[Tensor]:
        """Micro-batches of `size` training windows, shuffled anew for each pass, without end."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = torch.randperm(len(self.train), generator=generator)
            for chosen in torch.split(order, size):
                if len(chosen) == size:
                    yield self.train[chosen]


def load(tokenizer: Any, length: int, cache: Path) -> Corpus:
    """The text cut into windows, in an order that does not depend on the machine."""
    chapters = _chapters(_bible())
    kept = [text for i, text in enumerate(chapters) if i % HELD_OUT_EVERY != HELD_OUT_EVERY - 1]
    held_out = chapters[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
    return Corpus(
        train=_windows(_tokens(kept, tokenizer, cache), length),
        held_out=_windows(_tokens(held_out, tokenizer, cache), length),
    )


def _bible() -> str:
    if shutil.which("bible") is None:
        raise SystemExit(
            "finetune: the text is missing: apt-get install bible-kjv bible-kjv-text (./dev run does it by itself)"
        )
    command = ["bible", "-f", "-l0", "gen1:1-rev22:21"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


_VERSE = re.compile(r"^(?P<chapter>\d?\D+\d+):\d+ (?P<text>.*)$")


def _chapters(text: str) -> list[str]:
    """Each chapter's verses as one paragraph, without their numbers: "Ge1:1 In the beginning ..." loses "Ge1:1"."""
    chapters: dict[str, list[str]] = {}
    for line in text.splitlines():
        if verse := _VERSE.match(line):
            chapters.setdefault(verse["chapter"], []).append(verse["text"].strip())
    return [" ".join(verses) + "\n\n" for verses in chapters.values()]


def _tokens(chapters: list[str], tokenizer: Any, cache: Path) -> Tensor:
    """All chapters' tokens in a row; kept in `cache` under a name made of the text and the vocabulary's size."""
    text = "".join(chapters)
    name = hashlib.sha256(f"{len(tokenizer)} {text}".encode()).hexdigest()[:16]
    file = cache / f"tokens-{name}.pt"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".unfinished")
        encoded = tokenizer(chapters, add_special_tokens=False)["input_ids"]
        torch.save(torch.tensor([token for chapter in encoded for token in chapter], dtype=torch.int32), unfinished)
        unfinished.rename(file)
    tokens: Tensor = torch.load(file, weights_only=True)
    return tokens


def _windows(tokens: Tensor, length: int) -> Tensor:
    count = (len(tokens) - 1) // length
    return tokens[: count * length + 1].long().unfold(0, length + 1, length)
