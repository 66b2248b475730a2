"""DeepSpeed's conversion to a checkpoint for any number of ranks, which Orlop's checkpoints need not."""

from __future__ import annotations

from typing import Any, NoReturn


def main(args: Any = None) -> NoReturn:
    """Raises NotImplementedError with what to do instead."""
    raise NotImplementedError(
        "deepspeed.checkpoint.ds_to_universal is not provided by Orlop: its own checkpoints load under another stage, "
        "tier and offload as they are; `orlop export --full CHECKPOINT TARGET` writes one out whole, `orlop export "
        "CHECKPOINT TARGET` its weights as safetensors, and `orlop import` begins from the weights of others"
    )


if __name__ == "__main__":
    main()
