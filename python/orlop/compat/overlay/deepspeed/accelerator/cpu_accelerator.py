"""The processor as the device."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .abstract_accelerator import DeepSpeedAccelerator


class CPU_Accelerator(DeepSpeedAccelerator):
    """One device, whose memory is the host's. Memory is counted for the whole process."""

    ByteTensor = torch.ByteTensor
    IntTensor = torch.IntTensor
    LongTensor = torch.LongTensor
    HalfTensor = torch.HalfTensor
    BFloat16Tensor = torch.BFloat16Tensor
    FloatTensor = torch.FloatTensor
    DoubleTensor = torch.DoubleTensor

    def __init__(self) -> None:
        self._name = "cpu"
        self._communication_backend_name = "gloo"
        self._torch = torch.cpu

    def device_name(self, device_index: int | None = None) -> str:
        return self._name

    def device(self, device_index: int | None = None) -> Any:
        return contextlib.nullcontext()

    def current_device(self) -> int:
        return 0

    def current_device_name(self) -> str:
        return self._name

    def device_count(self) -> int:
        """Ranks of this machine, as the launcher said; without one, a machine's memory is one device."""
        return int(os.environ.get("LOCAL_SIZE", "1"))

    def is_available(self) -> bool:
        return True

    def is_synchronized_device(self) -> bool:
        return True

    def default_stream(self, device_index: int | None = None) -> Any:
        return torch.cpu.current_stream()

    @property
    def Event(self) -> Any:
        return torch.Event

    def manual_seed(self, seed: int) -> torch.Generator:
        return torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def initial_seed(self) -> int:
        return torch.initial_seed()

    def get_rng_state(self, device_index: int | None = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, new_state: Tensor, device_index: int | None = None) -> None:
        torch.set_rng_state(new_state)

    def default_generator(self, device_index: int) -> torch.Generator:
        return torch.default_generator

    def empty_cache(self) -> None:
        """Torch keeps no memory of the processor's back."""

    def memory_allocated(self, device_index: int | None = None) -> int:
        return _status("VmRSS")

    def max_memory_allocated(self, device_index: int | None = None) -> int:
        return _status("VmHWM")

    memory_reserved = memory_cached = memory_allocated
    max_memory_reserved = max_memory_cached = max_memory_allocated

    def reset_peak_memory_stats(self, device_index: int | None = None) -> None:
        """The system counts the peak anew."""
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    reset_max_memory_allocated = reset_max_memory_cached = reset_peak_memory_stats

    def memory_stats(self, device_index: int | None = None) -> dict[str, int]:
        return {
            "allocated_bytes.all.current": self.memory_allocated(),
            "allocated_bytes.all.peak": self.max_memory_allocated(),
        }

    def total_memory(self, device_index: int | None = None) -> int:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def available_memory(self, device_index: int | None = None) -> int:
        return _kib(Path("/proc/meminfo"), "MemAvailable")

    def pin_memory(self, tensor: Tensor, align_bytes: int = 1) -> Tensor:
        """The tensor itself: nothing is copied to another device."""
        return tensor

    def is_pinned(self, tensor: Tensor) -> bool:
        return tensor.is_pinned()

    def is_bf16_supported(self) -> bool:
        return True

    def is_fp16_supported(self) -> bool:
        return True

    def is_triton_supported(self) -> bool:
        return False

    def visible_devices_envs(self) -> list[str]:
        return []


def _status(name: str) -> int:
    return _kib(Path("/proc/self/status"), name)


def _kib(file: Path, name: str) -> int:
    """Bytes of a line such as `VmRSS:  1024 kB`."""
    (line,) = (line for line in file.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) << 10
