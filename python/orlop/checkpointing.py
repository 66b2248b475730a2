"""Activation checkpointing: a part of the model keeps its inputs alone, and computes again what its backward needs.

y = orlop.checkpointing.checkpoint(block, x, mask, flag=True)

What `configure`, or the block "activation_checkpointing" of an engine's configuration, asks for decides where the
inputs wait: on the GPU, in host memory, in one buffer, or a part with each rank of a model-parallel group.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.utils.checkpoint
from torch.utils import _pytree

from . import _log
from ._kept_inputs import Group, KeptInputs, Settings
from ._rng_tracker import RandomStates, seed_model_parallel, tracker
from .errors import ConfigError

if TYPE_CHECKING:
    from ._native import NativeEngine
    from .config import Config

__all__ = [
    "RandomStates",
    "checkpoint",
    "configure",
    "host_memory",
    "is_configured",
    "model_parallel_rank",
    "reset",
    "seed_model_parallel",
    "settings",
    "tracker",
]

Args = tuple[Any, ...]

_KEYS = {  # of the configuration, and what they are here
    "partition_activations": "partition_activations",
    "contiguous_memory_optimization": "contiguous_checkpointing",
    "number_checkpoints": "num_checkpoints",
    "cpu_checkpointing": "checkpoint_in_cpu",
    "synchronize_checkpoint_boundary": "synchronize",
    "profile": "profile",
}


class _State:
    """What the process has configured."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.group = Group()
        self.is_configured = False
        self.is_by_program = False  # by `configure`, not by an engine's configuration
        self.engine: NativeEngine | None = None  # whose budget host memory is counted in
        self.inputs = KeptInputs(self.settings, self.group, _host_limit)
        self.timed = 0  # checkpoints, for settings.profile


class _Place(threading.local):
    """Where this thread is: how many checkpoints it is in. Inner ones are computed again as part of the outermost."""

    depth = 0


def configure(block: Mapping[str, Any] | None = None, *, group: Group | None = None, **changes: Any) -> None:
    """Says where checkpoints keep their inputs from now on.

    block: "activation_checkpointing" as a configuration has it; an absent key keeps what was configured before.
    changes: fields of the settings, which count more: partition_activations, contiguous_checkpointing,
        num_checkpoints, checkpoint_in_cpu, synchronize, profile; None changes nothing.
    group: the ranks among which activations are alike, for partition_activations.

    Raises ConfigError for contiguous_checkpointing without the number of checkpoints, and for names that are none.
    """
    _configure(_changes_of(block or {}) | {name: value for name, value in changes.items() if value is not None}, group)
    _state.is_by_program = True


def _configure(changes: Mapping[str, Any], group: Group | None) -> None:
    known = {field.name for field in fields(Settings)}
    if unknown := sorted(set(changes) - known):
        raise ConfigError(
            f"checkpointing: on {unknown[0]}: no setting is called so; there are {', '.join(sorted(known))}"
        )
    wanted = replace(_state.settings, **changes)
    if wanted.contiguous_checkpointing and not wanted.num_checkpoints:
        raise ConfigError(
            "checkpointing: on contiguous_memory_optimization: the number of layers that are checkpointed is missing: "
            'write "number_checkpoints" beside it, or give num_checkpoints'
        )
    _state.settings, _state.group = wanted, group or _state.group
    _state.is_configured = True
    if wanted.partition_activations and _state.group.size == 1:
        _log.logger.info("checkpointing: on partition_activations: one model-parallel rank keeps all activations")
    reset()


def _changes_of(block: Mapping[str, Any]) -> dict[str, Any]:
    return {ours: block[key] for key, ours in _KEYS.items() if block.get(key) is not None}


def configure_for(config: Config, native: NativeEngine) -> None:
    """An engine's configuration: its block counts unless the program has called `configure`, its budget in any case."""
    given = {entry["key"]: entry["value"] for entry in config.entries if entry["origin"] == "file"}
    block = {key: given.get(f"activation_checkpointing.{key}") for key in _KEYS}
    _state.engine = native
    if any(value is not None for value in block.values()) and not _state.is_by_program:
        _configure(asdict(Settings()) | _changes_of(block), None)


def forget_engine(native: NativeEngine) -> None:
    """An engine is closed: its host memory for activations goes with it, unless some are kept in it."""
    if _state.engine is native:
        _state.engine = None
        reset()


def _host_limit() -> int:
    """The most bytes of host memory for activations: what the engine's budget sets aside for them, or leaves."""
    engine = _state.engine
    if engine is None or not engine.is_open:
        return 0
    stats = engine.stats()
    if stats.activation_bytes or not stats.host_budget_bytes:
        return int(stats.activation_bytes)
    return max(1, int(stats.host_budget_bytes - stats.host_bytes))  # 0 would be no limit


def is_configured() -> bool:
    """Whether `configure`, or an engine with the block in its configuration, has been called."""
    return _state.is_configured


def model_parallel_rank() -> int:
    """This rank's place in the group that `configure` was given; 0 without one."""
    return _state.group.rank


def settings() -> dict[str, Any]:
    """What counts now, by the names that `configure` takes."""
    return asdict(_state.settings)


def reset() -> None:
    """Gives back what checkpoints take: buffers and host memory, once what is kept there is needed no more."""
    _state.inputs = KeptInputs(_state.settings, _state.group, _host_limit)


def host_memory() -> dict[str, int]:
    """Bytes for activations: host_bytes taken, used_bytes of them in use, peak_bytes the most that were."""
    return _state.inputs.use()


# ---- A checkpoint ----


def checkpoint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls `function` without keeping what its backward pass needs; that is computed again when the pass comes to it.

    Arguments and outputs may be anything, in any order. Tensors among the arguments, in tuples too, wait where the
    settings say. Random numbers, autocast and `tracker` are the second time as they were. Outputs and gradients are
    those of `function(*args, **kwargs)`. Checkpoints may be nested.
    """
    function, args, kwargs = _unwrapped(function, args, kwargs)
    inputs, layout = _pytree.tree_flatten((args, tuple(kwargs.values())), is_leaf=_is_no_tuple)
    if not torch.is_grad_enabled():
        return function(*args, **kwargs)

    def run(*values: Any) -> Any:
        positional, named = _pytree.tree_unflatten(values, layout)
        return function(*positional, **dict(zip(kwargs, named, strict=True)))

    is_outermost = _place.depth == 0
    with _state.inputs.hooks(inputs) if is_outermost else contextlib.nullcontext():
        return torch.utils.checkpoint.checkpoint(run, *inputs, use_reentrant=False, context_fn=_blocks)


def _unwrapped(function: Any, args: Args, kwargs: dict[str, Any]) -> tuple[Any, Args, dict[str, Any]]:
    """What functools.partial holds are arguments like others: Transformers passes masks that way."""
    while isinstance(function, functools.partial):
        args, kwargs = function.args + args, function.keywords | kwargs
        function = function.func
    return function, args, kwargs


def _is_no_tuple(value: Any) -> bool:
    return type(value) is not tuple


class _Passes:
    """The times that a checkpoint's function is called: once forward, then once for every backward pass through it."""

    def __init__(self) -> None:
        self._states = tracker.get_states()
        self._seconds = 0.0

    @contextlib.contextmanager
    def first(self) -> Iterator[None]:
        begin = time.monotonic()
        with _inside():
            yield
        self._seconds = time.monotonic() - begin

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        now, begin = tracker.get_states(), time.monotonic()
        tracker.set_states({name: state.clone() for name, state in self._states.items()})
        try:
            with _inside():
                yield
        finally:
            tracker.set_states(now)
            self._say(time.monotonic() - begin)

    def _say(self, seconds: float) -> None:
        if _state.settings.profile:
            _state.timed += 1
            times = f"forward {self._seconds * 1e3:.3f} ms, computed again in {seconds * 1e3:.3f} ms"
            print(f"checkpoint {_state.timed}: {times}", flush=True)


class _Again(contextlib.AbstractContextManager[None]):
    """A block that can be entered each time anew."""

    def __init__(self, passes: _Passes) -> None:
        self._passes = passes
        self._open: list[contextlib.AbstractContextManager[None]] = []

    def __enter__(self) -> None:
        self._open.append(self._passes.again())
        self._open[-1].__enter__()

    def __exit__(self, *raised: Any) -> bool | None:
        return self._open.pop().__exit__(*raised)


def _blocks() -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
    """What torch is to enter around the first call and around the others."""
    passes = _Passes()
    return passes.first(), _Again(passes)


@contextlib.contextmanager
def _inside() -> Iterator[None]:
    _place.depth += 1
    _synchronize()
    try:
        yield
    finally:
        _place.depth -= 1
        _synchronize()


def _synchronize() -> None:
    if _state.settings.synchronize and torch.cuda.is_available():
        torch.cuda.synchronize()


_state = _State()
_place = _Place()
