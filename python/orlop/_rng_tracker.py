"""Named states of the random number generator, for parts of a model that draw numbers of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from .errors import InvalidArgumentError

MODEL_PARALLEL = "model-parallel-rng"
_MODEL_PARALLEL_OFFSET = 2718  # between the default seed and that of the first model-parallel rank, as in Megatron


def _state() -> Tensor:
    return torch.cuda.get_rng_state() if torch.cuda.is_available() else torch.get_rng_state()


def _set_state(state: Tensor) -> None:
    if torch.cuda.is_available():
        torch.cuda.set_rng_state(state)
    else:
        torch.set_rng_state(state)


class RandomStates:
    """States of the device's generator (the CPU's where there is no GPU), by name."""

    def __init__(self) -> None:
        self._states: dict[str, Tensor] = {}
        self._seeds: set[int] = set()

    def reset(self) -> None:
        """Forgets every name."""
        self._states.clear()
        self._seeds.clear()

    def get_states(self) -> dict[str, Tensor]:
        """A copy of all states."""
        return {name: state.clone() for name, state in self._states.items()}

    def set_states(self, states: dict[str, Tensor]) -> None:
        self._states = dict(states)

    def add(self, name: str, seed: int) -> None:
        """Makes a state from a seed. Raises InvalidArgumentError for a name or seed that is there already."""
        if seed in self._seeds or name in self._states:
            raise InvalidArgumentError(f"random states: on {name!r} (seed {seed}): name or seed is there already")
        before = _state()
        try:
            _seed(seed)
            self._states[name] = _state()
            self._seeds.add(seed)
        finally:
            _set_state(before)

    @contextlib.contextmanager
    def fork(self, name: str = MODEL_PARALLEL) -> Iterator[None]:
        """Draws from a named state inside the block; the default one goes on afterwards where it was."""
        if name not in self._states:
            raise InvalidArgumentError(f"random states: on {name!r}: there is none; add(name, seed) makes it")
        before = _state()
        _set_state(self._states[name])
        try:
            yield
        finally:
            self._states[name] = _state()
            _set_state(before)


def _seed(seed: int) -> None:
    if torch.cuda.is_available():
        torch.cuda.manual_seed(seed)
    else:
        torch.manual_seed(seed)


tracker = RandomStates()
"""The one that checkpoints put back before they compute again."""


def seed_model_parallel(seed: int, rank: int, keeps_default: bool = False) -> None:
    """Seeds the default generator alike on all ranks of a model-parallel group, and the named one by rank.

    With `keeps_default` the default one goes on where it was.
    """
    tracker.reset()
    if not keeps_default:
        _seed(seed)
    tracker.add(MODEL_PARALLEL, seed + _MODEL_PARALLEL_OFFSET + rank)
