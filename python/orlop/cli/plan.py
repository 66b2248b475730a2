"""`orlop plan`: what training a model would take of every tier."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import _native
from .._enums import DeviceKind
from .._parameters import parameters_of
from .._text import size, table
from ..config import Config
from ..errors import InvalidArgumentError

_PRECISION = {"fp16.enabled": torch.float16, "bf16.enabled": torch.bfloat16}


def add_to(commands: Any) -> None:
    """Adds the subcommand."""
    plan = commands.add_parser(
        "plan",
        help="bytes per tier for a model and a configuration",
        description="Says what training would take of every tier, by the allocator's own arithmetic, to the byte. "
        "Allocates nothing.",
    )
    model = plan.add_mutually_exclusive_group(required=True)
    model.add_argument("--params", metavar="N", help="so many parameters in a decoder like GPT, for example 7B")
    model.add_argument("--model", type=Path, help="a Hugging Face config.json, or the directory of a model")
    plan.add_argument("--config", help="a DeepSpeed configuration ({})")
    plan.add_argument("--json", action="store_true", help="the numbers as JSON")
    plan.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """`orlop plan`."""
    config = Config(chosen.config)
    model = _decoder(_count(chosen.params)) if chosen.params else _from_config(chosen.model)
    precision = next((dtype for key, dtype in _PRECISION.items() if config.get(key)), torch.float32)
    plan = plan_of(model.to(precision), config)
    if chosen.json:
        print(json.dumps(plan, indent=1))
        return 0
    tables = plan["host_bytes"] - plan["model_bytes"] - plan["states_host_bytes"] - plan["live_bytes"]
    rows = [
        ("host memory", size(plan["host_bytes"]), str(plan["host_bytes"])),
        ("  parameters and gradients", size(plan["model_bytes"]), str(plan["model_bytes"])),
        ("  parameters of the store, in use or kept", size(plan["live_bytes"]), str(plan["live_bytes"])),
        ("  optimizer states, or their staging", size(plan["states_host_bytes"]), str(plan["states_host_bytes"])),
        ("  tables and checkpoint buffers", size(tables), str(tables)),
        ("NVMe", size(plan["nvme_bytes"]), str(plan["nvme_bytes"])),
    ]
    if plan["pinned_fraction"] > 0:
        rows.append(("  traffic saved by what has room in memory", f"{plan['pinned_fraction']:.1%}", ""))
    print(f"{plan['params']:,} parameters in {plan['blocks']} blocks, {precision}".replace("torch.", ""))
    print(table(rows, ("TIER", "", "BYTES")))
    return 0


def plan_of(model: nn.Module, config: Config, device: DeviceKind = DeviceKind.HOST) -> dict[str, Any]:
    """What an engine for the model on a device would take; its parameters may be on the meta device."""
    native = _native.NativeEngine(config.text, device, 0)
    try:
        parameters = parameters_of(model, [{"params": [p for p in model.parameters() if p.requires_grad]}])
        for parameter in parameters:
            parameter.register(native)
        trained = sum(parameter.numel for parameter in parameters if not parameter.is_frozen)
        return {"params": trained} | native.plan()
    finally:
        native.close()


def _count(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)([KMBT]?)", text, re.IGNORECASE)
    if not found:
        raise InvalidArgumentError(f"plan: on --params {text}: write a number, as in 350M, 7B or 1T")
    return int(float(found[1]) * {"": 1, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[found[2].upper()])


def _decoder(params: int) -> nn.Module:
    """Layers of 12 h^2 parameters and an embedding, near the number asked for (Brown et al. 2020, table 2.1)."""
    layers = next((count for limit, count in ((1e9, 24), (1e10, 32), (1e11, 80), (1e14, 128)) if params < limit), 128)
    hidden = max(64, round((params / (12 * layers)) ** 0.5 / 64) * 64)
    with torch.device("meta"):
        blocks = [
            nn.ModuleDict(
                {
                    "qkv": nn.Linear(hidden, 3 * hidden),
                    "out": nn.Linear(hidden, hidden),
                    "up": nn.Linear(hidden, 4 * hidden),
                    "down": nn.Linear(4 * hidden, hidden),
                }
            )
            for _ in range(layers)
        ]
        return nn.ModuleDict({"embed": nn.Embedding(50304, hidden), "blocks": nn.ModuleList(blocks)})


def _from_config(path: Path) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        settings = AutoConfig.from_pretrained(path)
        with torch.device("meta"):
            model: nn.Module = AutoModelForCausalLM.from_config(settings)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise InvalidArgumentError(f"plan: on --model {path}: {error}") from None
    return model
