"""What happens when autograd has a parameter's gradient: the engine takes it, torch forgets it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from . import _log
from ._dtypes import DTYPES
from ._enums import Boundary
from ._native import NativeEngine
from ._parameters import Parameter
from .errors import OutOfOrderError, UnsupportedError

_BOUNDARIES = {None: Boundary.COUNTED, False: Boundary.NOT_YET, True: Boundary.NOW}


class GradientFlow:
    """The way from autograd into the engine, for all parameters."""

    def __init__(self, native: NativeEngine, accumulation_steps: int) -> None:
        self.native = native
        self.loss_scale = native.loss_scale()  # changed only by updates
        self.accumulation_steps = accumulation_steps
        self.in_backward = False  # inside Engine.backward
        self.is_scaled = False  # by Engine.scale: the loss that the program will call backward() on
        self.told: bool | None = None  # what the program says of this micro-batch being the last before an update
        self.taken = 0  # gradients since the last end of a backward pass
        self.calls = 0  # gradients since the start
        self.backwards = 0  # micro-batches since the last update
        self._was_last = False  # the micro-batch that ended latest, as they are counted
        self.on_taken: Callable[[int], None] | None = None  # told the engine's number of each parameter
        self._in_flight: deque[tuple[int, Tensor]] = deque()  # gradients whose memory the engine still reads
        self._handles: list[Any] = []
        self._has_warned = False

    def attach(self, parameters: list[Parameter]) -> None:
        for parameter in parameters:
            hook = GradientHook(self, parameter)
            self._handles.append(parameter.tensor.register_post_accumulate_grad_hook(hook))  # type: ignore[no-untyped-call]

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._in_flight.clear()

    def tell_boundary(self, is_last: bool | None) -> None:
        """Says whether micro-batches from here on are the last before an update; None: as they are counted."""
        if is_last is not self.told:
            self.native.set_boundary(_BOUNDARIES[is_last])
            self.told = is_last

    @property
    def is_update_due(self) -> bool:
        """Whether the next step is to update."""
        return self._was_last if self.told is None else self.told

    def end_backward(self) -> None:
        """Ends a micro-batch."""
        self._was_last = self.native.backward_end()
        self.backwards += 1
        self.taken = 0
        self.is_scaled = False

    def warn_of_dropped_micro_batches(self) -> None:
        """Says once that a program drops gradients before they were ever used."""
        if self.backwards and self.accumulation_steps > 1 and not self._has_warned:
            self._has_warned = True
            _log.logger.warning(
                "zero_grad: after %d of %d micro-batches: their gradients are dropped and the update begins again; "
                "call it after an update only, or not at all",
                self.backwards,
                self.accumulation_steps,
            )

    def part_of_update(self, name: str, gradient: Tensor) -> Tensor:
        """What a gradient counts whose loss the program called `backward()` on itself: as if it were the engine's."""
        if self.loss_scale != 1:
            raise OutOfOrderError(
                f"backward: on {name}: Loss scaling is required, as its loss must be multiplied with the loss scale "
                f"({self.loss_scale:g}): call engine.backward(loss), or engine.scale(loss).backward()"
            )
        return gradient if self.accumulation_steps == 1 else gradient / self.accumulation_steps

    def discard(self) -> None:
        """Forgets what has accumulated since the last update; the next micro-batch is the first again."""
        if self.taken or self.backwards:
            self.native.discard_gradients()
        self.start_over()

    def start_over(self) -> None:
        """An update has used what had accumulated."""
        self.taken = self.backwards = 0
        self._was_last = False

    def hold(self, ticket: int, gradient: Tensor) -> None:
        """Keeps a gradient until the engine has read it; lets go of those it has."""
        self._in_flight.append((ticket, gradient))
        while self._in_flight and self.native.is_done(self._in_flight[0][0]):
            self._in_flight.popleft()


class GradientHook:
    """One parameter's post-accumulate-grad hook. An object, not a closure, so that models can still be pickled."""

    __slots__ = ("flow", "name", "number", "tensor_id")

    def __init__(self, flow: GradientFlow, parameter: Parameter) -> None:
        self.flow: GradientFlow | None = flow
        self.name = parameter.name
        self.number = parameter.number
        self.tensor_id = id(parameter.tensor)  # not the tensor: it holds this hook

    def __call__(self, tensor: nn.Parameter) -> None:
        flow = self.flow
        if flow is None or id(tensor) != self.tensor_id:
            return  # a copy of the model: its gradients are its own
        gradient = tensor.grad
        tensor.grad = None
        assert gradient is not None
        if gradient.requires_grad or gradient.layout is not torch.strided:
            self._refuse(gradient)
        if not (flow.in_backward or flow.is_scaled):
            gradient = flow.part_of_update(self.name, gradient)
        if not gradient.is_contiguous():
            gradient = gradient.contiguous()
        flow.taken += 1
        flow.calls += 1
        stream = torch.cuda.current_stream(gradient.device).cuda_stream if gradient.is_cuda else 0
        ticket = flow.native.grad_ready(self.number, gradient.data_ptr(), DTYPES[gradient.dtype], stream)
        if ticket:
            flow.hold(ticket, gradient)
        if flow.on_taken is not None:
            flow.on_taken(self.number)

    def _refuse(self, gradient: Tensor) -> None:
        if gradient.requires_grad:
            raise UnsupportedError(
                f"backward: on {self.name}: create_graph=True keeps gradients for a second derivative, but the engine "
                "takes them; use torch.autograd.grad for that"
            )
        raise UnsupportedError(
            f"backward: on {self.name}: its gradient is {str(gradient.layout).removeprefix('torch.')}, but only dense "
            "ones are supported; make the embedding with sparse=False"
        )

    def __reduce__(self) -> tuple[type[_NoHook], tuple[()]]:
        return _NoHook, ()


class _NoHook:
    """What a hook becomes in a pickled or deep-copied model."""

    def __call__(self, tensor: nn.Parameter) -> None:
        """Leaves the gradient where it is."""
