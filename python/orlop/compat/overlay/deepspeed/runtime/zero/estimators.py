"""What training would take of every tier, by the arithmetic that the engine allocates with.

Parameters are bf16 and the optimizer is AdamW. Of several ranks each is taken to have an even part of every parameter.
Figures are of model states: what activations need comes on top. The model computes on the GPU if this machine has one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orlop
import torch
from orlop._enums import DeviceKind
from orlop._text import size, table
from orlop.cli.plan import plan_of
from torch import nn

__all__ = [
    "estimate_zero2_model_states_mem_needs",
    "estimate_zero2_model_states_mem_needs_all_cold",
    "estimate_zero2_model_states_mem_needs_all_live",
    "estimate_zero3_model_states_mem_needs",
    "estimate_zero3_model_states_mem_needs_all_cold",
    "estimate_zero3_model_states_mem_needs_all_live",
    "model_to_params",
]

_ON_DISK = "."  # a plan creates nothing, so that any path does
_COMBINATIONS = {
    2: [("none", "none"), ("none", "cpu"), ("none", "nvme")],
    3: [("none", "none"), ("none", "cpu"), ("none", "nvme"), ("cpu", "cpu"), ("nvme", "nvme")],
}  # of offload_param, offload_optimizer


def model_to_params(model: nn.Module) -> tuple[int, int]:
    """A model's parameters, and those of the module that itself has the most."""
    own = [sum(_numel(tensor) for tensor in module.parameters(recurse=False)) for module in model.modules()]
    return sum(_numel(tensor) for tensor in model.parameters()), max(own, default=0)


def estimate_zero2_model_states_mem_needs(
    total_params: int,
    num_gpus_per_node: int = 1,
    num_nodes: int = 1,
    cpu_offload: bool = True,
    additional_buffer_factor: float = 1.5,
) -> tuple[int, int]:
    """(host bytes of a node, device bytes of a GPU)."""
    plan = _plan(_parts(total_params, total_params), 2, "none", _device(cpu_offload), num_gpus_per_node * num_nodes)
    return plan["host_bytes"] * num_gpus_per_node, plan["device_bytes"]


def estimate_zero3_model_states_mem_needs(
    total_params: int,
    largest_layer_params: int,
    num_gpus_per_node: int = 1,
    num_nodes: int = 1,
    cpu_offload: bool = True,
    cpu_offload_params: bool = True,
    zero_init: bool = True,
    additional_buffer_factor: float = 1.5,
) -> tuple[int, int, int]:
    """(host bytes of a node, device bytes of a GPU, bytes of the largest layer whole).

    `zero_init` and `additional_buffer_factor` are for DeepSpeed's signature: nothing here is a rule of thumb.
    """
    offload_param = _device(cpu_offload_params)
    parts = _parts(total_params, largest_layer_params)
    plan = _plan(parts, 3, offload_param, _device(cpu_offload), num_gpus_per_node * num_nodes)
    return plan["host_bytes"] * num_gpus_per_node, plan["device_bytes"], 2 * largest_layer_params


def estimate_zero2_model_states_mem_needs_all_live(
    model: nn.Module, num_gpus_per_node: int = 1, num_nodes: int = 1, additional_buffer_factor: float = 1.5
) -> None:
    """Prints what each way to offload takes under stage 2, of a model that is there."""
    _print(_shapes_of(model), 2, num_gpus_per_node, num_nodes)


def estimate_zero2_model_states_mem_needs_all_cold(
    total_params: int, num_gpus_per_node: int = 1, num_nodes: int = 1, additional_buffer_factor: float = 1.5
) -> None:
    """The same of so many parameters."""
    _print(_parts(total_params, total_params), 2, num_gpus_per_node, num_nodes)


def estimate_zero3_model_states_mem_needs_all_live(
    model: nn.Module, num_gpus_per_node: int = 1, num_nodes: int = 1, additional_buffer_factor: float = 1.5
) -> None:
    """Prints what each way to offload takes under stage 3, of a model that is there."""
    _print(_shapes_of(model), 3, num_gpus_per_node, num_nodes)


def estimate_zero3_model_states_mem_needs_all_cold(
    total_params: int,
    largest_layer_params: int,
    num_gpus_per_node: int = 1,
    num_nodes: int = 1,
    additional_buffer_factor: float = 1.5,
) -> None:
    """The same of so many parameters, of which the largest layer has some."""
    _print(_parts(total_params, largest_layer_params), 3, num_gpus_per_node, num_nodes)


Sizes = list[list[int]]  # of parameters, by module


def _numel(tensor: Any) -> int:
    return int(getattr(tensor, "ds_numel", tensor.numel()))


def _shapes_of(model: nn.Module) -> Sizes:
    """Tied parameters count once."""
    seen: set[int] = set()
    sizes: Sizes = []
    for module in model.modules():
        own = [tensor for tensor in module.parameters(recurse=False) if id(tensor) not in seen]
        seen.update(map(id, own))
        sizes.append([_numel(tensor) for tensor in own])
    return [own for own in sizes if own]


def _parts(total: int, largest: int) -> Sizes:
    """As many layers of the largest size as there are, and one with the rest."""
    count, rest = divmod(total, max(1, min(largest, total)))
    return [[largest]] * count + ([[rest]] if rest else [])


def _device(is_offloaded: bool) -> str:
    return "cpu" if is_offloaded else "none"


def _plan(sizes: Sizes, stage: int, param: str, optimizer: str, ranks: int) -> dict[str, Any]:
    with torch.device("meta"):
        modules = [nn.ParameterList(_empty(-(-numel // ranks)) for numel in own) for own in sizes]
    offload = {"offload_param": param, "offload_optimizer": optimizer}
    zero = {key: {"device": device, "nvme_path": _ON_DISK} for key, device in offload.items() if device != "none"}
    config = {
        "bf16": {"enabled": True},
        "optimizer": {"type": "AdamW"},
        "zero_optimization": {"stage": stage, **zero},
    }
    return plan_of(nn.ModuleList(modules), orlop.Config(config), _computes_on())


def _computes_on() -> DeviceKind:
    return DeviceKind.CUDA if torch.cuda.is_available() else DeviceKind.HOST


def _empty(numel: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(numel, dtype=torch.bfloat16))


def _print(sizes: Sizes, stage: int, num_gpus_per_node: int, num_nodes: int) -> None:
    total = sum(map(sum, sizes))
    print(
        f"Estimated memory needed for the model states of {total / 1e6:.0f} M parameters, stage {stage}, {num_nodes} "
        f"node(s) with {num_gpus_per_node} rank(s) each:"
    )
    print(table(list(_rows(sizes, stage, num_gpus_per_node, num_nodes)), _HEAD))


_HEAD = ("per CPU", "per GPU", "NVMe", "Options")


def _rows(sizes: Sizes, stage: int, num_gpus_per_node: int, num_nodes: int) -> Iterator[tuple[str, str, str, str]]:
    for param, optimizer in _COMBINATIONS[stage]:
        plan = _plan(sizes, stage, param, optimizer, num_gpus_per_node * num_nodes)
        node = [size(plan[key] * num_gpus_per_node) for key in ("host_bytes", "nvme_bytes")]
        options = f"offload_param={param}, offload_optimizer={optimizer}"
        yield node[0], size(plan["device_bytes"]), node[1], options
