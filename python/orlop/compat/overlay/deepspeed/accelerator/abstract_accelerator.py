"""What every accelerator has: by DeepSpeed's names, answered by torch."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


class DeepSpeedAccelerator(ABC):
    """One kind of device. Indices count from 0 among those that this process sees; None is the current one."""

    _name: str
    _communication_backend_name: str
    _torch: ModuleType  # torch.cpu or torch.cuda

    # ---- Which device ----

    def device_name(self, device_index: int | None = None) -> str:
        """ "cuda", or with an index "cuda:0"."""
        return self._name if device_index is None else f"{self._name}:{device_index}"

    def device(self, device_index: int | None = None) -> Any:
        """A context in which that device is the current one."""
        return self._torch.device(device_index)

    def set_device(self, device_index: int) -> None:
        self._torch.set_device(device_index)

    @abstractmethod
    def current_device(self) -> int: ...

    @abstractmethod
    def current_device_name(self) -> str:
        """As torch.device takes it."""

    @abstractmethod
    def device_count(self) -> int: ...

    @abstractmethod
    def is_available(self) -> bool: ...

    def communication_backend_name(self) -> str:
        """Of torch.distributed."""
        return self._communication_backend_name

    def on_accelerator(self, tensor: Tensor) -> bool:
        """Whether a tensor is on a device of this kind."""
        return tensor.device.type == self._name

    # ---- Order of work ----

    @abstractmethod
    def is_synchronized_device(self) -> bool:
        """Whether what was asked is done when the call returns."""

    def use_host_timers(self) -> bool:
        return self.is_synchronized_device()

    def resolves_data_dependency(self) -> bool:
        return self.is_synchronized_device()

    def handles_memory_backpressure(self) -> bool:
        return self.is_synchronized_device()

    def synchronize(self, device_index: int | None = None) -> None:
        self._torch.synchronize(device_index)

    @property
    def Stream(self) -> Any:
        return self._torch.Stream

    def stream(self, stream: Any) -> Any:
        """A context in which that stream is the current one."""
        return self._torch.stream(stream)

    def current_stream(self, device_index: int | None = None) -> Any:
        return self._torch.current_stream(device_index)

    @abstractmethod
    def default_stream(self, device_index: int | None = None) -> Any: ...

    @property
    @abstractmethod
    def Event(self) -> Any: ...

    # ---- Random numbers ----

    def random(self) -> ModuleType:
        return torch.random

    @abstractmethod
    def manual_seed(self, seed: int) -> Any: ...

    @abstractmethod
    def manual_seed_all(self, seed: int) -> Any: ...

    @abstractmethod
    def initial_seed(self) -> int: ...

    @abstractmethod
    def get_rng_state(self, device_index: int | None = None) -> Tensor: ...

    @abstractmethod
    def set_rng_state(self, new_state: Tensor, device_index: int | None = None) -> None: ...

    @abstractmethod
    def default_generator(self, device_index: int) -> torch.Generator: ...

    # ---- Memory, in bytes ----

    @abstractmethod
    def empty_cache(self) -> None: ...

    @abstractmethod
    def memory_allocated(self, device_index: int | None = None) -> int: ...

    @abstractmethod
    def max_memory_allocated(self, device_index: int | None = None) -> int: ...

    @abstractmethod
    def total_memory(self, device_index: int | None = None) -> int: ...

    @abstractmethod
    def available_memory(self, device_index: int | None = None) -> int: ...

    @abstractmethod
    def pin_memory(self, tensor: Tensor, align_bytes: int = 1) -> Tensor:
        """The tensor in memory that copies to and from this device want."""

    @abstractmethod
    def is_pinned(self, tensor: Tensor) -> bool: ...

    # ---- What it computes in ----

    @abstractmethod
    def is_bf16_supported(self) -> bool: ...

    @abstractmethod
    def is_fp16_supported(self) -> bool: ...

    def supported_dtypes(self) -> list[torch.dtype]:
        """Of parameters that can be trained."""
        found = [torch.float32]
        found += [torch.float16] if self.is_fp16_supported() else []
        return found + ([torch.bfloat16] if self.is_bf16_supported() else [])

    @abstractmethod
    def is_triton_supported(self) -> bool: ...

    def amp(self) -> ModuleType:
        """torch's module of mixed precision for this device."""
        module: ModuleType = self._torch.amp
        return module

    @abstractmethod
    def visible_devices_envs(self) -> list[str]:
        """Variables that say which devices a process sees."""

    def set_visible_devices_envs(self, current_env: dict[str, str], local_accelerator_ids: list[int]) -> None:
        """Writes such variables into an environment."""
        for name in self.visible_devices_envs():
            current_env[name] = ",".join(map(str, local_accelerator_ids))

    # ---- Operators ----

    def op_builder_dir(self) -> str:
        return "deepspeed.ops.op_builder"

    def get_op_builder(self, class_name: str) -> Any:
        """The class of that name, None for what is not offered."""
        return getattr(importlib.import_module(self.op_builder_dir()), class_name, None)

    def create_op_builder(self, class_name: str) -> Any:
        builder = self.get_op_builder(class_name)
        return None if builder is None else builder()
