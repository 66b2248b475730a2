"""A text file as windows of bytes, and a tokenizer whose tokens are bytes: nothing to download."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """256 tokens, one per byte, and one to pad with."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>")


class Windows(Dataset[dict[str, Tensor]]):
    """Pieces of `length` tokens, one after the other; each is its own label."""

    def __init__(self, tokens: Tensor, length: int) -> None:
        self.pieces = tokens[: len(tokens) // length * length].view(-1, length)

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.pieces[index], "labels": self.pieces[index]}


def load(text: Path, tokenizer: PreTrainedTokenizerFast, length: int) -> tuple[Windows, Windows]:
    """Nine tenths to train with, the rest to evaluate."""
    tokens = torch.tensor(tokenizer(text.read_text(encoding="utf-8"))["input_ids"])
    cut = len(tokens) * 9 // 10
    return Windows(tokens[:cut], length), Windows(tokens[cut:], length)
