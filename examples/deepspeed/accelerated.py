"""A loop of one's own with Hugging Face's Accelerator.

    accelerate launch --config_file examples/deepspeed/default_config.yaml examples/deepspeed/accelerated.py \
        --text FILE --checkpoints FOLDER

The file is as `accelerate config` writes it; its DeepSpeed part says where parameters and states live.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed
from corpus import byte_tokenizer, load
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel, get_linear_schedule_with_warmup


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="any text file")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder for the state and the final model")
    parser.add_argument("--updates", type=int, default=20)
    args = parser.parse_args()

    accelerator = Accelerator()
    set_seed(0)
    tokenizer = byte_tokenizer()
    train, _ = load(args.text, tokenizer, length=64)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=64, n_layer=2, n_head=4, n_positions=64))
    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=2, num_training_steps=args.updates)
    model, optimizer, batches, schedule = accelerator.prepare(
        model, optimizer, DataLoader(train, batch_size=4, shuffle=True), schedule
    )

    updates = 0
    while updates < args.updates:
        for batch in batches:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                updates += 1
                accelerator.print(f"update {updates}: loss {loss.item():.4f}, lr {schedule.get_last_lr()[0]:.2e}")
            if updates == args.updates:
                break
    accelerator.save_state(args.checkpoints / "state")
    accelerator.unwrap_model(model).save_pretrained(
        args.checkpoints / "model",
        is_main_process=accelerator.is_main_process,
        state_dict=accelerator.get_state_dict(model),
    )
    accelerator.end_training()


if __name__ == "__main__":
    main()
