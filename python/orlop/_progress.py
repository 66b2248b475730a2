"""The line that steps_per_print asks for: what the updates since the last one were like."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ._text import size

if TYPE_CHECKING:
    from .config import Config
    from .engine import Engine

_DEFAULT_INTERVAL = 10  # updates between lines when only wall_clock_breakdown or memory_breakdown is on
_TOKENS = "input_ids"  # what models of language call them


class Progress:
    """Adds up updates, and what they were made from, until a line is due.

    Loss, lr, loss scale and gradient norm are the latest update's. Seconds, phases and I/O are means over the line's
    updates, rates are over all of their time; of a drive, over the time it was busy.
    """

    def __init__(self, config: Config) -> None:
        self._with_phases = bool(config.get("wall_clock_breakdown"))
        self._with_memory = bool(config.get("memory_breakdown"))
        self._interval = _interval(config, self._with_phases or self._with_memory)
        self._names: list[str] | None = None  # of the model's positional arguments
        self._drives: dict[str, tuple[int, float]] = {}  # until the last line: bytes moved and seconds busy, by path
        self._begin()

    def _begin(self) -> None:
        self._updates = self._samples = self._tokens = 0
        self._seconds = self._exposed = self._hidden = 0.0
        self._phases: dict[str, float] = {}

    def __bool__(self) -> bool:
        """Whether there are ever lines."""
        return self._interval > 0

    def note_inputs(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """One micro-batch, as the model is given it."""
        if self._names is None:
            self._names = list(inspect.signature(model.forward).parameters)
        given = dict(_tensors_in(kwargs | dict(zip(self._names, args, strict=False))))
        tokens = given.get(_TOKENS)
        first = next(iter(given.values()), None) if tokens is None else tokens
        self._samples += 0 if first is None else len(first)
        self._tokens += 0 if tokens is None else tokens.numel()

    def end_update(self, engine: Engine, seconds: float, phases: Mapping[str, float]) -> None:
        """Also a skipped one."""
        report = engine.last_report
        assert report is not None
        self._updates += 1
        self._seconds += seconds
        self._exposed += report.waited_io_seconds
        self._hidden += report.hidden_io_seconds
        for name, part in phases.items():
            self._phases[name] = self._phases.get(name, 0.0) + part

    def is_due(self, engine: Engine) -> bool:
        return bool(self) and engine.global_steps % self._interval == 0

    def line(self, engine: Engine, loss: float) -> str:
        """What there is to say now. The next line's updates begin."""
        parts = [
            *self._result(engine, loss),
            *self._pace(engine),
            *self._io(engine),
            _memory(engine, self._with_memory),
        ]
        self._begin()
        return ", ".join(parts)

    def _result(self, engine: Engine, loss: float) -> Iterator[str]:
        yield f"step {engine.global_steps}: loss {loss:.4f}"
        yield "lr " + " ".join(f"{lr:.3g}" for lr in engine.get_lr())
        if engine.fp16_enabled():
            yield f"loss scale {engine.loss_scale():g}"
        if engine.last_report is not None:
            yield f"gradient norm {engine.last_report.grad_norm:.3g}"
        if engine.skipped_steps:
            yield f"{engine.skipped_steps} skipped"

    def _pace(self, engine: Engine) -> Iterator[str]:
        seconds = f"{self._seconds / self._updates:.2f} s"
        if self._with_phases:
            parts = (f"{name} {part / self._updates:.3f}" for name, part in self._phases.items())
            seconds += f" ({', '.join(parts)})"
        yield seconds
        samples = self._samples or self._updates * (engine.train_batch_size() or 0)
        if self._tokens:
            yield f"{self._tokens / self._seconds:.4g} tokens/s"
        elif samples:
            yield f"{samples / self._seconds:.4g} samples/s"

    def _io(self, engine: Engine) -> Iterator[str]:
        drives = engine.describe().get("nvme", {}).get("by_drive", ())
        if drives:
            yield f"I/O hidden {self._hidden / self._updates:.3f} exposed {self._exposed / self._updates:.3f} s"
        for drive in drives:
            now = drive["read_bytes"] + drive["write_bytes"], drive["busy_seconds"]
            before, self._drives[drive["path"]] = self._drives.get(drive["path"], (0, 0.0)), now
            busy = now[1] - before[1]
            yield f"{drive['path']} {(now[0] - before[0]) / busy / 1e9 if busy else 0:.2f} GB/s"


def _memory(engine: Engine, with_parts: bool) -> str:
    """What the engine has of each tier; of a GPU what torch has, too."""
    stats = engine.stats()
    tiers = ["host " + size(stats["host_bytes"])]
    if stats["host_budget_bytes"]:
        tiers[0] += " of " + size(stats["host_budget_bytes"])
    if with_parts:
        model, staging, units = stats["model_bytes"], stats["staging_bytes"], stats["live_bytes"]
        tiers[0] += f": parameters and gradients {size(model)}, units {size(units)}, staging {size(staging)};"
    if engine.device.type == "cuda":
        tiers.append("device " + size(torch.cuda.memory_allocated(engine.device)))
    if stats["nvme_bytes"]:
        tiers.append("NVMe " + size(stats["nvme_bytes"]))
    text = " ".join(tiers).removesuffix(";")
    return f"memory ({text})" if with_parts else f"memory {text}"


def _interval(config: Config, with_details: bool) -> int:
    given = config.get("steps_per_print")
    if given is None:
        return _DEFAULT_INTERVAL if with_details else 0
    return int(given) if isinstance(given, int) else 0  # Infinity: never


def _tensors_in(given: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """Those with a dimension for samples, by name; also of a batch that is a mapping or a sequence."""
    for name, value in given.items():
        if isinstance(value, Tensor):
            if value.dim():
                yield name, value
        elif isinstance(value, Mapping):
            yield from _tensors_in(value)
        elif isinstance(value, (list, tuple)):
            yield from _tensors_in({f"{name}.{place}": item for place, item in enumerate(value)})
