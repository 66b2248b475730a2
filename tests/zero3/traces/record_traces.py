#!/usr/bin/env python3
"""Records the traces in this folder, for `offload_bench trace` and the planner's tests, from models of transformers.

usage: record_traces.py [NAME...]        gpt, llama, t5, moe; all of them if none is named

Each model runs with its own modules, layers and experts and random weights, but narrow, so that it computes in a moment;
its units have the sizes of the full width: GPT-2 XL, Llama-2 7B, T5 base and a Switch transformer. Compute times are
estimated: two operations
for a parameter and token, twice as many in backward, at 20 TFLOP/s.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, SwitchTransformersConfig,
                          SwitchTransformersForConditionalGeneration, T5Config, T5ForConditionalGeneration)

FLOPS = 20e12
TOKENS = 2048
NARROW_TOKENS = 16
VOCABULARY = 512  # of the narrow models


class Recorder:
    """Units are modules that own parameters, in the order of registration; a parameter that is shared has one unit."""

    def __init__(self, model: nn.Module) -> None:
        self.units: list[str] = []
        self.uses: list[tuple[int, str, int]] = []  # unit, kind, tokens
        self.is_backward = False
        self.sizes: dict[str, int] = {}
        owner: dict[int, int] = {}
        for name, module in model.named_modules():
            own = list(module.parameters(recurse=False))
            if not own:
                continue
            new = [p for p in own if id(p) not in owner]
            if new:
                self.units.append(name)
                self.sizes[name] = sum(p.numel() for p in new)
            for p in new:
                owner[id(p)] = len(self.units) - 1
            self.hook(module, owner[id(own[0])])

    def hook(self, module: nn.Module, unit: int) -> None:
        def forward(_module: nn.Module, args: Any, kwargs: Any) -> None:
            tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)]
            tokens = tensors[0].numel() // (tensors[0].shape[-1] if tensors[0].is_floating_point() else 1)
            self.uses.append((unit, "r" if self.is_backward else "f", tokens))

        def backward(_module: nn.Module, grads: tuple[torch.Tensor, ...]) -> None:
            tokens = grads[0].numel() // grads[0].shape[-1]
            self.uses.append((unit, "b", tokens))

        module.register_forward_pre_hook(forward, with_kwargs=True)
        module.register_full_backward_pre_hook(backward)

    def step(self, loss: Callable[[], torch.Tensor]) -> list[tuple[int, str, int]]:
        self.uses, self.is_backward = [], False
        value = loss()
        self.is_backward = True
        value.backward()
        return self.uses


def write(name: str, model: str, sizes: list[int], names: list[str], steps: list[list[tuple[int, str, int]]]) -> None:
    def seconds(unit: int, kind: str, tokens: int) -> float:
        return float(f"{2 * sizes[unit] * tokens * (2 if kind == 'b' else 1) / FLOPS:.2g}")

    lines = ['{"format": "orlop-trace-1",', f' "model": {json.dumps(model)},', ' "units": [']
    lines.append(",\n".join(f"  {json.dumps([n, s])}" for n, s in zip(names, sizes)))
    lines.append(' ],\n "steps": [')
    encoded = []
    for step in steps:
        uses = [json.dumps([u, k, seconds(u, k, t)], separators=(",", ":")) for u, k, t in step]
        rows = [",".join(uses[i:i + 8]) for i in range(0, len(uses), 8)]
        encoded.append("  [" + ",\n   ".join(rows) + "]")
    lines.append(",\n".join(encoded) + "\n ]}\n")
    path = Path(__file__).with_name(f"{name}.json")
    path.write_text("\n".join(lines))
    print(f"{path.name}: {len(names)} units, {sum(sizes) / 1e9:.2f} B parameters, uses "
          f"{[len(s) for s in steps]}, {path.stat().st_size} bytes")


def record(name: str, description: str, model_class: Any, config_class: Any, shape: dict[str, Any], full: dict[str, int],
           narrow: dict[str, int], steps: int = 1, checkpointing: bool = False) -> None:
    torch.manual_seed(1)
    shape = {**shape, "decoder_start_token_id": 0}
    with torch.device("meta"):
        sizes = Recorder(model_class(config_class(**shape, **full))).sizes
    model = model_class(config_class(**shape, **narrow, vocab_size=VOCABULARY)).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    recorder = Recorder(model)
    uses = []
    for _ in range(steps):
        tokens = torch.randint(1, VOCABULARY, (1, NARROW_TOKENS))
        step = recorder.step(lambda: model(input_ids=tokens, labels=tokens).loss)
        uses.append([(unit, kind, count * TOKENS // NARROW_TOKENS) for unit, kind, count in step])
    write(name, description, [sizes[n] for n in recorder.units], recorder.units, uses)


def gpt() -> None:
    record("gpt", "GPT-2 XL", GPT2LMHeadModel, GPT2Config, {"n_layer": 48},
           {"n_embd": 1600, "n_head": 25}, {"n_embd": 32, "n_head": 2})


def llama() -> None:
    record("llama", "Llama-2 7B, activation checkpointing", LlamaForCausalLM, LlamaConfig, {"num_hidden_layers": 32},
           {}, {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}, checkpointing=True)


def t5() -> None:
    record("t5", "T5 base", T5ForConditionalGeneration, T5Config, {"num_layers": 12},
           {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_heads": 12},
           {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_heads": 2})


def moe() -> None:
    """Two steps whose tokens differ, and with them the experts."""
    shape = {"num_layers": 6, "num_decoder_layers": 6, "num_sparse_encoder_layers": 3, "num_sparse_decoder_layers": 3,
             "num_experts": 16, "expert_capacity": 64, "router_jitter_noise": 0.0}
    record("moe", "Switch transformer, 12 layers, 16 experts", SwitchTransformersForConditionalGeneration,
           SwitchTransformersConfig, shape, {}, {"d_model": 64, "d_kv": 8, "d_ff": 128, "num_heads": 4}, steps=2)


if __name__ == "__main__":
    makers = {"gpt": gpt, "llama": llama, "t5": t5, "moe": moe}
    for chosen in sys.argv[1:] or makers:
        makers[chosen]()
