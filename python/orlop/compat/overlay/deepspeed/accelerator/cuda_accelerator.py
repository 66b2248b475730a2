"""NVIDIA's GPUs as the device."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from .abstract_accelerator import DeepSpeedAccelerator


class CUDA_Accelerator(DeepSpeedAccelerator):
    """The GPUs that torch sees."""

    ByteTensor = functools.partial(torch.tensor, dtype=torch.uint8, device="cuda")
    IntTensor = functools.partial(torch.tensor, dtype=torch.int32, device="cuda")
    LongTensor = functools.partial(torch.tensor, dtype=torch.int64, device="cuda")
    HalfTensor = functools.partial(torch.tensor, dtype=torch.float16, device="cuda")
    BFloat16Tensor = functools.partial(torch.tensor, dtype=torch.bfloat16, device="cuda")
    FloatTensor = functools.partial(torch.tensor, dtype=torch.float32, device="cuda")
    DoubleTensor = functools.partial(torch.tensor, dtype=torch.float64, device="cuda")

    def __init__(self) -> None:
        self._name = "cuda"
        self._communication_backend_name = "nccl"
        self._torch = torch.cuda

    def current_device(self) -> int:
        return torch.cuda.current_device()

    def current_device_name(self) -> str:
        return f"cuda:{torch.cuda.current_device()}"

    def device_count(self) -> int:
        return torch.cuda.device_count()

    def is_available(self) -> bool:
        return torch.cuda.is_available()

    def is_synchronized_device(self) -> bool:
        return False

    def default_stream(self, device_index: int | None = None) -> Any:
        return torch.cuda.default_stream(device_index)

    @property
    def Event(self) -> Any:
        return torch.cuda.Event

    def manual_seed(self, seed: int) -> None:
        torch.cuda.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.cuda.manual_seed_all(seed)

    def initial_seed(self) -> int:
        return torch.cuda.initial_seed()

    def get_rng_state(self, device_index: int | None = None) -> Tensor:
        return torch.cuda.get_rng_state("cuda" if device_index is None else device_index)

    def set_rng_state(self, new_state: Tensor, device_index: int | None = None) -> None:
        torch.cuda.set_rng_state(new_state, "cuda" if device_index is None else device_index)

    def default_generator(self, device_index: int) -> torch.Generator:
        return torch.cuda.default_generators[device_index]

    def empty_cache(self) -> None:
        torch.cuda.empty_cache()

    def memory_allocated(self, device_index: int | None = None) -> int:
        return torch.cuda.memory_allocated(device_index)

    def max_memory_allocated(self, device_index: int | None = None) -> int:
        return torch.cuda.max_memory_allocated(device_index)

    def memory_reserved(self, device_index: int | None = None) -> int:
        return torch.cuda.memory_reserved(device_index)

    def max_memory_reserved(self, device_index: int | None = None) -> int:
        return torch.cuda.max_memory_reserved(device_index)

    memory_cached, max_memory_cached = memory_reserved, max_memory_reserved

    def reset_peak_memory_stats(self, device_index: int | None = None) -> None:
        torch.cuda.reset_peak_memory_stats(device_index)

    reset_max_memory_allocated = reset_max_memory_cached = reset_peak_memory_stats

    def memory_stats(self, device_index: int | None = None) -> dict[str, Any]:
        return torch.cuda.memory_stats(device_index)

    def total_memory(self, device_index: int | None = None) -> int:
        total: int = torch.cuda.mem_get_info(device_index)[1]
        return total

    def available_memory(self, device_index: int | None = None) -> int:
        free: int = torch.cuda.mem_get_info(device_index)[0]
        return free

    def pin_memory(self, tensor: Tensor, align_bytes: int = 1) -> Tensor:
        return tensor.pin_memory()

    def is_pinned(self, tensor: Tensor) -> bool:
        return tensor.is_pinned()

    def is_bf16_supported(self) -> bool:
        return bool(torch.cuda.is_bf16_supported())

    def is_fp16_supported(self) -> bool:
        return torch.cuda.get_device_capability() >= (5, 3)

    def is_triton_supported(self) -> bool:
        major, _ = torch.cuda.get_device_capability()
        return major >= 7

    def visible_devices_envs(self) -> list[str]:
        return ["CUDA_VISIBLE_DEVICES"]

    def set_visible_devices_envs(self, current_env: dict[str, str], local_accelerator_ids: list[int]) -> None:
        """Devices that the environment names otherwise than by number (MIG) are counted in its order."""
        named = current_env.get("CUDA_VISIBLE_DEVICES", "").split(",")
        are_numbers = all(name.isdigit() for name in named if name)
        chosen = [str(number) if are_numbers else named[number] for number in local_accelerator_ids]
        current_env["CUDA_VISIBLE_DEVICES"] = ",".join(chosen)
