"""What a run has saved, read by other programs.

    python examples/deepspeed/read_back.py OUT                     # what trainer.save_model() wrote, by from_pretrained
    python examples/deepspeed/read_back.py OUT/checkpoint-20       # a checkpoint, whose weights zero_to_fp32.py writes

Prints a few words that the model goes on with. The first needs neither DeepSpeed nor what stands in for it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from corpus import byte_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel


def read(folder: Path) -> PreTrainedModel:
    """By from_pretrained, or from a checkpoint of an engine, consolidated first."""
    script = folder / "zero_to_fp32.py"
    if not script.exists():
        return AutoModelForCausalLM.from_pretrained(folder)
    with tempfile.TemporaryDirectory() as weights:
        subprocess.run([sys.executable, script, folder, weights], check=True)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        model.load_state_dict(torch.load(Path(weights) / "pytorch_model.bin"))
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--begin", default="The ")
    args = parser.parse_args()

    model, tokenizer = read(args.folder).eval(), byte_tokenizer()
    begin = tokenizer(args.begin, return_tensors="pt")["input_ids"]
    words = model.generate(begin, max_new_tokens=20, do_sample=False, pad_token_id=0)
    print(repr(tokenizer.decode(words[0])))


if __name__ == "__main__":
    main()
