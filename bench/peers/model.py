"""The model that every system trains, in plain torch, and what it is trained on: both follow from the seed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, scaled_dot_product_attention

from .shape import BYTES, Shape


class Block(nn.Module):
    """Attention and a feed-forward layer, each with a norm before and a residual around it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """Predicts the next byte."""

    def __init__(self, shape: Shape, dtype: torch.dtype) -> None:
        super().__init__()
        # Each part is cast when it is made: no system's peak has a whole model of another precision in it.
        self.embed = nn.Embedding(BYTES, shape.width).to(dtype)
        self.place = nn.Embedding(shape.length, shape.width).to(dtype)
        self.blocks = nn.ModuleList(Block(shape).to(dtype) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width).to(dtype)
        self.head = nn.Linear(shape.width, BYTES, bias=False).to(dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.place(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


def make(shape: Shape, dtype: torch.dtype, seed: int) -> GPT:
    """The same parameters, bit for bit, for every system."""
    torch.manual_seed(seed)
    return GPT(shape, dtype)


def batch(shape: Shape, step: int, seed: int) -> tuple[Tensor, Tensor]:
    """One sequence that counts on by some stride, and what comes next at each place: something to learn."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
    begin, stride = torch.randint(1, BYTES, (2,), generator=generator).tolist()
    tokens = (begin + stride * torch.arange(shape.length + 1)) % BYTES
    return tokens[None, :-1], tokens[None, 1:]


def loss_of(logits: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
