"""Fine-tunes a language model whose weights are safetensors files: import, train, export.

./dev orlop import MODEL start --dtype bf16      # MODEL: a Hugging Face directory
./dev python examples/from_safetensors.py --model MODEL --start start --text FILE --out tuned --nvme_path FOLDER
./dev orlop export tuned weights                 # for from_pretrained again
"""

from __future__ import annotations

import argparse
from pathlib import Path

import orlop
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


def config_of(options: argparse.Namespace) -> dict[str, object]:
    offload = {"device": "nvme", "nvme_path": options.nvme_path} if options.nvme_path else {"device": "cpu"}
    return {
        "bf16": {"enabled": True},
        "train_micro_batch_size_per_gpu": options.batch,
        "gradient_clipping": 1.0,
        "steps_per_print": 1,
        "optimizer": {"type": "AdamW", "params": {"lr": options.lr}},
        "zero_optimization": {"stage": 3, "offload_optimizer": offload},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="for its configuration and tokenizer; its weights are not read")
    parser.add_argument("--start", type=Path, required=True, help="what `orlop import` made of its weights")
    parser.add_argument("--text", type=Path, required=True, help="what to learn from")
    parser.add_argument("--out", type=Path, required=True, help="where to save")
    parser.add_argument("--nvme_path", help="a directory on a drive for the optimizer states; without it host memory")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--batch", type=int, default=4, help="sequences per update")
    parser.add_argument("--length", type=int, default=128, help="tokens per sequence")
    parser.add_argument("--lr", type=float, default=2e-5)
    options = parser.parse_args()

    torch.manual_seed(0)
    tokens = AutoTokenizer.from_pretrained(options.model)(options.text.read_text(), return_tensors="pt").input_ids[0]
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(options.model), dtype=torch.bfloat16)
    with orlop.initialize(model=model, config=config_of(options))[0] as engine:
        engine.load_checkpoint(options.start.parent, tag=options.start.name)
        while engine.global_steps < options.updates:
            begins = torch.randint(len(tokens) - options.length, (options.batch,))
            batch = torch.stack([tokens[begin : begin + options.length] for begin in begins])
            engine.backward(engine(input_ids=batch, labels=batch).loss)
            engine.step()
        engine.save_checkpoint(options.out)


if __name__ == "__main__":
    main()
