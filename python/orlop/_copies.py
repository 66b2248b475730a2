"""Copies between a device and host memory, beside what the device computes."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor


class Copies(Protocol):
    """A copy's mark says when it has ended; None stands for one that has."""

    def out(self, source: Tensor, target: Tensor) -> Any:
        """Begins to copy a tensor of the device to the host, as it is now; the copy's mark."""

    def back(self, source: Tensor, after: Any, device: torch.device) -> tuple[Tensor, Any]:
        """Begins to copy a host tensor, once the copy with mark `after` has ended, to new memory; that and the mark."""

    def join(self, tensor: Tensor, mark: Any) -> None:
        """What the device is given from now on comes after that copy to the tensor."""

    def is_done(self, mark: Any) -> bool: ...

    def wait(self, mark: Any) -> None: ...


def copies_for(device: torch.device) -> Copies:
    return StreamCopies(device) if device.type == "cuda" else DirectCopies()


class DirectCopies:
    """A device whose memory is the host's: every copy has ended when the call returns."""

    def out(self, source: Tensor, target: Tensor) -> None:
        target.copy_(source)

    def back(self, source: Tensor, _after: None, device: torch.device) -> tuple[Tensor, None]:
        return source.to(device, copy=True), None

    def join(self, tensor: Tensor, mark: None) -> None: ...

    def is_done(self, _mark: None) -> bool:
        return True

    def wait(self, mark: None) -> None: ...


class StreamCopies:
    """A GPU's copies on two streams of their own, one for each direction of the link. A mark is an event."""

    def __init__(self, device: torch.device) -> None:
        self._out: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._back: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def out(self, source: Tensor, target: Tensor) -> Any:
        self._out.wait_stream(torch.cuda.current_stream(source.device))  # what makes it comes first
        with torch.cuda.stream(self._out):
            target.copy_(source, non_blocking=True)
        source.record_stream(self._out)  # its memory is nobody else's until then
        return self._out.record_event()

    def back(self, source: Tensor, after: Any, device: torch.device) -> tuple[Tensor, Any]:
        with torch.cuda.stream(self._back):
            self._back.wait_event(after)
            tensor = torch.empty_strided(source.shape, source.stride(), dtype=source.dtype, device=device)
            tensor.copy_(source, non_blocking=True)
        return tensor, self._back.record_event()

    def join(self, tensor: Tensor, mark: Any) -> None:
        stream = torch.cuda.current_stream(tensor.device)
        stream.wait_event(mark)
        tensor.record_stream(stream)

    def is_done(self, mark: Any) -> bool:
        return bool(mark.query())

    def wait(self, mark: Any) -> None:
        mark.synchronize()
