"""Host memory of the library's as torch tensors: in huge pages, fast to copy from and to a GPU, kept for later."""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Sequence
from ctypes import byref, c_void_p

import torch
from torch import Tensor

from ._abi import HostPoolParams, HostPoolUse, library, sized
from ._enums import HOST_POOL_LOCKED, DeviceKind
from ._native import check


class HostPool:
    """Owns an `orlop_host_pool *`. Its memory is the process's; a forked child has none of it."""

    def __init__(self, device: torch.device, limit_bytes: int = 0, is_locked: bool = False) -> None:
        """For copies from and to a device. `limit_bytes` is the most it takes, 0: what the system has."""
        params = sized(HostPoolParams)
        params.device_kind = DeviceKind.CUDA if device.type == "cuda" else DeviceKind.HOST
        params.device_index = device.index or 0
        params.flags = HOST_POOL_LOCKED if is_locked else 0
        params.limit_bytes = limit_bytes
        handle = c_void_p()
        check(library.host_pool_open(byref(params), byref(handle)))
        self._handle = handle
        weakref.finalize(self, library.host_pool_close, byref(handle)).atexit = False

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A contiguous CPU tensor without defined values, whose memory comes back when nothing refers to it any more.

        Raises NoMemoryError with the numbers where the limit or the system has no room for it.
        """
        count = math.prod(shape)
        if count == 0:
            return torch.empty(shape, dtype=dtype, device="cpu")
        memory, nbytes = c_void_p(), count * dtype.itemsize
        check(library.host_pool_take(self._handle, nbytes, byref(memory)))
        assert memory.value is not None
        buffer = (ctypes.c_char * nbytes).from_address(memory.value)
        weakref.finalize(buffer, self._give_back, memory.value).atexit = False
        return torch.frombuffer(buffer, dtype=dtype, count=count).view(torch.Size(shape))

    def _give_back(self, address: int) -> None:
        library.host_pool_give_back(self._handle, address)  # what it could refuse is a fork's child, which has none

    def use(self) -> HostPoolUse:
        """`host_bytes` taken from the system, `used_bytes` of them lent now, `peak_bytes` the most that were."""
        use: HostPoolUse = sized(HostPoolUse)
        check(library.host_pool_look(self._handle, byref(use)))
        return use
