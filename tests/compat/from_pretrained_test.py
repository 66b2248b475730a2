"""Hugging Face under ZeRO-3: models from a configuration and from files have the values that they have without it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import deepspeed
import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM
from transformers.integrations import HfDeepSpeedConfig

torch.set_num_threads(1)

GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 32, "vocab_size": 64}
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 32,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", GPT2),
    "llama": ("llama", LLAMA),
    "llama, tied": ("llama", LLAMA | {"tie_word_embeddings": True}),
    "t5": (
        "t5",
        {
            "decoder_start_token_id": 0,
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 48,
            "num_layers": 2,
            "num_heads": 4,
            "vocab_size": 64,
        },
    ),
    "mixtral": ("mixtral", LLAMA | {"num_local_experts": 3, "num_experts_per_tok": 2}),
}
AUTO = {"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_clipping": "auto"}
DEVICES = ["none", "nvme"]


def settings(device: str, path: Path, **changes: Any) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": 3, "stage3_param_persistence_threshold": 0, "reduce_bucket_size": "auto"}
    if device != "none":
        zero |= {"offload_param": {"device": device, "nvme_path": str(path)}}
    return AUTO | {"zero_optimization": zero} | changes


@pytest.fixture(params=DEVICES)
def zero3(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Switches ZeRO-3 on for what is built from then on."""
    kept: list[Any] = []

    def begin(**changes: Any) -> dict[str, Any]:
        found = settings(request.param, tmp_path, **changes)
        kept.append(HfDeepSpeedConfig(found))
        return found

    yield begin
    kept.clear()
    gc.collect()
    assert not transformers.integrations.is_deepspeed_zero3_enabled()


def config_of(name: str) -> Any:
    kind, values = FAMILIES[name]
    return AutoConfig.for_model(kind, **values, bos_token_id=0, eos_token_id=1, pad_token_id=2)


def auto_class(name: str) -> Any:
    return AutoModelForSeq2SeqLM if name == "t5" else AutoModelForCausalLM


def built(name: str) -> Any:
    torch.manual_seed(3)
    return auto_class(name).from_config(config_of(name))


def values_of(model: nn.Module) -> dict[str, Tensor]:
    with deepspeed.zero.GatheredParameters(model.parameters()):
        return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def differences(found: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    return [name for name in expected if name not in found or not torch.equal(found[name], expected[name])]


def inputs_of(name: str) -> dict[str, Tensor]:
    ids = torch.randint(3, 64, (2, 7), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "labels": ids}


@pytest.mark.parametrize("name", FAMILIES)
def test_files_give_the_values_that_they_give_without_it(name: str, zero3: Any, tmp_path: Path) -> None:
    expected = built(name).eval()
    expected.save_pretrained(tmp_path / "model", max_shard_size="30KB")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    expected = auto_class(name).from_pretrained(tmp_path / "model").eval()
    ds_config = zero3()
    model = auto_class(name).from_pretrained(tmp_path / "model").eval()
    assert all(parameter.numel() == 0 for parameter in model.parameters())
    assert sum(p.ds_numel for p in model.parameters()) == sum(p.numel() for p in expected.parameters())
    assert differences(values_of(model), expected.state_dict()) == []
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in expected.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), expected.buffers(), strict=True))
    ds_config |= {"train_batch_size": 2, "train_micro_batch_size_per_gpu": 2, "gradient_clipping": 1.0}
    ds_config |= {"optimizer": {"type": "AdamW"}}
    engine = deepspeed.initialize(model=model, config_params=ds_config)[0]
    engine.eval()
    batch = inputs_of(name)
    with torch.no_grad():
        assert torch.equal(engine(**batch).loss, expected(**batch).loss)
    prompt = batch["input_ids"][:1]
    length = {"max_new_tokens": 5, "do_sample": False}
    assert torch.equal(engine.module.generate(prompt, **length), expected.generate(prompt, **length))
    engine.train()
    engine.backward(engine(**batch).loss)
    engine.step()
    assert all(parameter.numel() == 0 for parameter in model.parameters())
    engine.destroy()


@pytest.mark.parametrize("name", ["gpt2", "llama, tied", "mixtral"])
def test_a_configuration_gives_initial_values_of_the_family(name: str, zero3: Any) -> None:
    zero3()
    model = built(name)
    values = values_of(model)
    assert all(tensor.isfinite().all() for tensor in values.values())
    embedding = next(tensor for key, tensor in values.items() if "embed" in key or "wte" in key)
    assert 0.015 < embedding.std() < 0.025
    assert all(torch.equal(values[key], torch.ones_like(values[key])) for key in values if "norm" in key)


def test_the_type_is_that_of_the_configuration(zero3: Any, tmp_path: Path) -> None:
    expected = built("llama").bfloat16()
    expected.save_pretrained(tmp_path / "model")
    zero3(bf16={"enabled": True})
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert differences(values_of(model), expected.state_dict()) == []


def test_missing_weights_are_initialised(zero3: Any, tmp_path: Path) -> None:
    whole = built("llama")
    state = {key: value for key, value in whole.state_dict().items() if "layers.1.mlp" not in key}
    whole.save_pretrained(tmp_path / "model", state_dict=state)
    zero3()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    values = values_of(model)
    assert differences(values, state) == []
    made = values["model.layers.1.mlp.up_proj.weight"]
    assert 0.015 < made.std() < 0.025
    assert not torch.equal(made, whole.state_dict()["model.layers.1.mlp.up_proj.weight"])


@pytest.mark.parametrize("name", ["gpt2", "llama"])
@pytest.mark.parametrize("count", [70, 50])
def test_embeddings_can_be_resized(name: str, count: int, zero3: Any, tmp_path: Path) -> None:
    built(name).save_pretrained(tmp_path / "model")
    expected = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.manual_seed(5)
    expected.resize_token_embeddings(count, mean_resizing=False)
    zero3()
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.manual_seed(5)
    model.resize_token_embeddings(count, mean_resizing=False)
    kept = min(count, 64)
    for key, value in values_of(model).items():
        wanted = expected.state_dict()[key]
        assert value.shape == wanted.shape and torch.equal(value[:kept], wanted[:kept]), key
    assert model.config.vocab_size == count


def test_a_trained_model_is_saved_whole(zero3: Any, tmp_path: Path) -> None:
    ds_config = zero3()
    model = built("llama, tied")
    ds_config |= {"train_batch_size": 2, "train_micro_batch_size_per_gpu": 2, "gradient_clipping": 1.0}
    ds_config |= {"optimizer": {"type": "AdamW", "params": {"lr": 1e-2}}}
    engine = deepspeed.initialize(model=model, config_params=ds_config)[0]
    batch = inputs_of("llama")
    for _ in range(2):
        engine.backward(engine(**batch).loss)
        engine.step()
    model.save_pretrained(tmp_path / "trained", state_dict=engine.module_state_dict())
    engine.eval()
    with torch.no_grad():
        expected = engine(**batch).loss
    engine.destroy()
    transformers.integrations.unset_hf_deepspeed_config()
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "trained").eval()
    with torch.no_grad():
        assert torch.equal(plain(**batch).loss, expected)
