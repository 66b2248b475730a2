"""A language model trained by Hugging Face's Trainer. `--deepspeed FILE` says where parameters and states live.

    deepspeed --num_gpus=1 examples/deepspeed/trainer.py --text FILE --output_dir OUT \
        --deepspeed examples/deepspeed/minimal.json --per_device_train_batch_size 2 --max_steps 20

Without --deepspeed it trains without offload. The options are those of TrainingArguments and:
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from corpus import byte_tokenizer, load
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    HfArgumentParser,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    set_seed,
)


@dataclass
class Task:
    """What is trained on what."""

    text: Path = field(metadata={"help": "any text file"})
    length: int = field(default=64, metadata={"help": "tokens per sample"})
    width: int = field(default=64, metadata={"help": "of the model's hidden states"})
    layers: int = field(default=2, metadata={"help": "of the model"})
    resume: bool = field(default=False, metadata={"help": "go on from the last checkpoint in --output_dir"})
    lora: bool = field(default=False, metadata={"help": "train adapters of rank 8, by peft"})


def model_of(task: Task, vocabulary: int) -> PreTrainedModel:
    shape = {"n_embd": task.width, "n_layer": task.layers, "n_head": 4, "n_positions": task.length}
    config = GPT2Config(vocab_size=vocabulary, bos_token_id=0, eos_token_id=0, **shape)
    model = AutoModelForCausalLM.from_config(config)  # with ZeRO's stage 3 never as a whole in memory
    if task.lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=8, target_modules=["c_attn"], task_type="CAUSAL_LM"))
    return model


def main() -> None:
    arguments, task = HfArgumentParser((TrainingArguments, Task)).parse_args_into_dataclasses()
    set_seed(arguments.seed)
    tokenizer = byte_tokenizer()
    train, held_out = load(task.text, tokenizer, task.length)
    trainer = Trainer(
        model=model_of(task, len(tokenizer)),
        args=arguments,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=tokenizer,
    )
    trainer.train(resume_from_checkpoint=task.resume or None)
    metrics = trainer.evaluate()
    trainer.log_metrics("eval", metrics)
    trainer.save_model()


if __name__ == "__main__":
    main()
