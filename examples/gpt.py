"""A small GPT from scratch on any text file: accumulation, bf16 or fp16, and going on after a kill.

    ./dev python examples/gpt.py --text FILE --checkpoints FOLDER --nvme_path FOLDER
    kill -9 ...                                 # at any time; the same command goes on where the last checkpoint was
"""

from __future__ import annotations

import argparse
from pathlib import Path

import orlop
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

BYTES = 256  # the vocabulary


class Block(nn.Module):
    """Attention and a feed-forward layer, each with a norm before and a residual around it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(torch.nn.functional.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """Predicts the next byte. Input and output embedding are one parameter."""

    def __init__(self, width: int, layers: int, length: int) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(BYTES, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads=4) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, BYTES, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.place.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def config_of(options: argparse.Namespace) -> dict[str, object]:
    offload = {"device": "nvme", "nvme_path": options.nvme_path} if options.nvme_path else {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": options.batch,
        "gradient_accumulation_steps": options.accumulate,
        "gradient_clipping": 1.0,
        "steps_per_print": options.print_every,
        options.precision: {"enabled": True},
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "betas": [0.9, 0.95], "weight_decay": 0.1}},
        "zero_optimization": {"stage": 3, "offload_optimizer": offload},
        "orlop": {"checkpoint": {"keep": 2}},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="what to learn from")
    parser.add_argument("--checkpoints", type=Path, required=True, help="where to save, and to go on from")
    parser.add_argument("--nvme_path", help="a directory on a drive for the optimizer states; without it host memory")
    parser.add_argument("--precision", choices=("bf16", "fp16"), default="bf16")
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--accumulate", type=int, default=2, help="micro-batches per update")
    parser.add_argument("--batch", type=int, default=8, help="sequences per micro-batch")
    parser.add_argument("--length", type=int, default=64, help="bytes per sequence")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--save_every", type=int, default=50, help="updates")
    parser.add_argument("--print_every", type=int, default=10, help="updates")
    options = parser.parse_args()

    torch.manual_seed(0)
    text = torch.frombuffer(bytearray(options.text.read_bytes()), dtype=torch.uint8).long()
    model = GPT(options.width, layers=4, length=options.length)
    with orlop.initialize(model=model, config=config_of(options))[0] as engine:
        path, _ = engine.load_checkpoint(options.checkpoints)
        if path:
            print(f"going on after update {engine.global_steps}", flush=True)
        while engine.global_steps < options.updates:
            # Drawn from torch's generator, whose state is in the checkpoint: no batch is seen twice or left out.
            begins = torch.randint(len(text) - options.length - 1, (options.batch,))
            windows = torch.stack([text[begin : begin + options.length + 1] for begin in begins])
            logits = engine(windows[:, :-1])
            engine.backward(cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten()))
            is_update = engine.is_gradient_accumulation_boundary()
            engine.step()
            if is_update and engine.global_steps % options.save_every == 0:
                engine.save_checkpoint(options.checkpoints)
        print(f"after {engine.global_steps} updates: {engine.digest():016x}")


if __name__ == "__main__":
    main()
