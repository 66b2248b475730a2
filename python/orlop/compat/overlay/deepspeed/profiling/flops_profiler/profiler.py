"""`FlopsProfiler` and `get_model_profile` over orlop.flops.

What torch counts is counted: matrix products, convolutions and attention. A multiply-accumulate is two operations.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from orlop import flops as _orlop
from torch import nn


class FlopsProfiler:
    """Counts a model's operations between `start_profile` and `stop_profile`."""

    def __init__(self, model: nn.Module, ds_engine: Any = None, recompute_fwd_factor: float = 0.0) -> None:
        """recompute_fwd_factor is kept and changes nothing: what is computed again is counted where it happens."""
        self.model, self.ds_engine, self.recompute_fwd_factor = model, ds_engine, recompute_fwd_factor
        self.started = False
        self._ignored: tuple[type, ...] = ()
        self._counter = _orlop.Counter()
        self._running = contextlib.ExitStack()

    def start_profile(self, ignore_list: Sequence[type] | None = None) -> None:
        """Begins to count, anew. Modules of the classes in `ignore_list` are left out of the totals."""
        self.reset_profile()
        self._ignored = tuple(ignore_list or ())
        self._running.enter_context(self._counter.running())
        self.started = True

    def stop_profile(self) -> None:
        """Ends counting; what was counted can be asked for."""
        self._running.close()
        self.started = False

    def reset_profile(self) -> None:
        """Forgets what was counted."""
        self._running.close()
        self._counter = _orlop.Counter()
        self.started = False

    def end_profile(self) -> None:
        """Stops, and forgets what was counted."""
        self.reset_profile()

    # ---- What was counted; as text with a unit where `as_string` ----

    def get_total_flops(self, as_string: bool = False) -> Any:
        total = _orlop.total_without(self.model, self._counter.counted, self._ignored)
        return _orlop.quantity(total, "FLOPS") if as_string else total

    def get_total_macs(self, as_string: bool = False) -> Any:
        total = self.get_total_flops() // 2
        return _orlop.quantity(total, "MACs") if as_string else total

    def get_total_duration(self, as_string: bool = False) -> Any:
        """Wall time between start and stop, in seconds."""
        seconds = self._counter.counted.seconds
        return f"{seconds * 1e3:.3g} ms" if as_string else seconds

    def get_total_params(self, as_string: bool = False) -> Any:
        total = _orlop.parameters_of(self.model)
        return _orlop.quantity(total, "").strip() if as_string else total

    def print_model_profile(
        self,
        profile_step: int = 1,
        module_depth: int = -1,
        top_modules: int = 1,
        detailed: bool = True,
        output_file: str | None = None,
    ) -> None:
        """Prints, or writes to a file, where the operations are."""
        text = _orlop.page(self.model, self._counter.counted, module_depth, top_modules, detailed)
        _orlop.show(f"flops at step {profile_step}\n{text}", output_file)

    def print_model_aggregated_profile(self, module_depth: int = -1, top_modules: int = 1) -> None:
        """Prints the classes of modules with the most operations, for each depth."""
        _orlop.show(_orlop.page(self.model, self._counter.counted, module_depth, top_modules, is_detailed=False), None)


def get_model_profile(
    model: nn.Module,
    input_shape: tuple[int, ...] | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    print_profile: bool = True,
    detailed: bool = True,
    module_depth: int = -1,
    top_modules: int = 1,
    warm_up: int = 1,
    as_string: bool = True,
    output_file: str | None = None,
    ignore_modules: Sequence[type] | None = None,
    mode: str = "forward",
) -> tuple[Any, Any, Any]:
    """Operations, multiply-accumulates and parameters of one call of a model.

    The call is `model(*args, **kwargs)`, or with `input_shape` of ones of that shape; `mode` "generate" calls
    `model.generate` instead. `warm_up` calls come before the one that is counted. As numbers without `as_string`.
    """
    call = _call_of(model, mode)
    given = list(args)
    if input_shape is not None:
        given = [_ones(model, input_shape)]
    with torch.no_grad():
        for _ in range(warm_up):
            call(*given, **(kwargs or {}))
    profiler = FlopsProfiler(model)
    profiler.start_profile(ignore_modules)
    with torch.no_grad():
        call(*given, **(kwargs or {}))
    profiler.stop_profile()
    if print_profile:
        profiler.print_model_profile(warm_up, module_depth, top_modules, detailed, output_file)
    return (
        profiler.get_total_flops(as_string),
        profiler.get_total_macs(as_string),
        profiler.get_total_params(as_string),
    )


def _call_of(model: nn.Module, mode: str) -> Any:
    if mode not in ("forward", "generate"):
        raise ValueError(f'get_model_profile: on mode {mode!r}: must be "forward" or "generate"')
    return model if mode == "forward" else model.generate


def _ones(model: nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    if len(shape) < 1:
        raise ValueError("get_model_profile: on input_shape (): give the batch's size at least")
    like = next(model.parameters(), torch.empty(0))
    return torch.ones(shape, dtype=like.dtype, device=like.device)
