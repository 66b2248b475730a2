"""The loop that DeepSpeed's own guide shows: initialize, forward, backward, step, save, load.

    deepspeed examples/deepspeed/loop.py --text FILE --checkpoints FOLDER --deepspeed \
        --deepspeed_config examples/deepspeed/loop.json

Started again it goes on where the last checkpoint was. Activations are recomputed in backward, as the configuration's
"activation_checkpointing" says.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import deepspeed
import torch
from corpus import byte_tokenizer, load
from torch import Tensor, nn


class Model(nn.Module):
    """A small transformer over bytes."""

    def __init__(self, vocabulary: int, length: int, width: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        self.place = nn.Embedding(length, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        states = self.token(tokens) + self.place(places)
        mask = nn.Transformer.generate_square_subsequent_mask(len(places), device=tokens.device, dtype=states.dtype)
        for layer in self.layers:
            states = deepspeed.checkpointing.checkpoint(layer, states, mask)
        return self.head(states)


def loss_of(model: nn.Module, tokens: Tensor) -> Tensor:
    """How well every next byte is told."""
    logits = model(tokens[:, :-1])
    return nn.functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="any text file")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder")
    parser.add_argument("--updates", type=int, default=20, help="in all, those of earlier runs included")
    parser.add_argument("--local_rank", type=int, default=-1, help="given by launchers")
    return deepspeed.add_config_arguments(parser).parse_args()


def main() -> None:
    args = parse()
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    train, _ = load(args.text, tokenizer, length=64)
    model = Model(len(tokenizer), length=64)
    model_engine, optimizer, loader, _ = deepspeed.initialize(
        args=args, model=model, model_parameters=model.parameters(), training_data=train
    )
    deepspeed.checkpointing.configure(mpu_=None, deepspeed_config=args.deepspeed_config)
    _, client_state = model_engine.load_checkpoint(args.checkpoints)
    updates = (client_state or {}).get("updates", 0)
    for batch in deepspeed.utils.RepeatingLoader(loader):
        if updates >= args.updates:
            break
        loss = loss_of(model_engine, batch["input_ids"].to(model_engine.device))
        model_engine.backward(loss)
        model_engine.step()
        if model_engine.was_step_applied():
            updates += 1
            if model_engine.local_rank in (-1, 0):
                print(f"update {updates}: loss {loss.item():.4f}, lr {optimizer.param_groups[0]['lr']:.2e}")
    model_engine.save_checkpoint(args.checkpoints, tag=f"global_step{updates}", client_state={"updates": updates})


if __name__ == "__main__":
    main()
