"""Floating-point operations of a model: of matrix products, convolutions and attention, counted by torch as they run.

counts = orlop.flops.Counter()
with counts.running():
    model(x)
print(orlop.flops.page(model, counts.counted))
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ._parked import shape_of
from ._text import table

if TYPE_CHECKING:
    from .config import Config

_ROOT = "Global"  # torch's name of all that was counted


@dataclass
class Flops:
    """Operations by the module in which they ran, which contains those of the modules within it."""

    by_module: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def total(self) -> int:
        return self.by_module.get(_ROOT, 0)


class Counter:
    """Counts what runs inside its blocks."""

    def __init__(self) -> None:
        self.counted = Flops()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Counts what runs inside, on the GPU too, and adds it to what was counted before."""
        mode = FlopCounterMode(display=False)
        _synchronize()
        begin = time.monotonic()
        with mode:
            yield
            _synchronize()
        self.counted.seconds += time.monotonic() - begin
        for name, operations in mode.get_flop_counts().items():
            self.counted.by_module[name] = self.counted.by_module.get(name, 0) + sum(operations.values())


def _synchronize() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


@dataclass(frozen=True)
class ModuleFlops:
    """One module's line: its name within the model ("" is the model itself), class, parameters and operations."""

    name: str
    kind: str
    parameters: int
    flops: int

    @property
    def depth(self) -> int:
        return self.name.count(".") + 1 if self.name else 0


def parameters_of(module: nn.Module) -> int:
    """Elements of a module's parameters, wherever they are."""
    return sum(shape_of(parameter).numel() for parameter in module.parameters())


def by_module(model: nn.Module, flops: Flops) -> list[ModuleFlops]:
    """Every module of a model that operations ran in, in the model's order; the model itself first."""
    lines = []
    for name, module in model.named_modules():
        counted = _operations_in(module, f"{type(model).__name__}.{name}", flops) if name else flops.total
        if counted is not None:
            lines.append(ModuleFlops(name, type(module).__name__, parameters_of(module), counted))
    return lines


def _operations_in(module: nn.Module, path: str, flops: Flops) -> int | None:
    """None where none ran. A list of modules is never called itself."""
    if path in flops.by_module:
        return flops.by_module[path]
    children = [_operations_in(child, f"{path}.{name}", flops) for name, child in module.named_children()]
    counted = [count for count in children if count is not None]
    return sum(counted) if counted else None


def total_without(model: nn.Module, flops: Flops, ignored: tuple[type, ...]) -> int:
    """All operations but those in modules of some classes."""
    left_out = [name for name, module in model.named_modules() if isinstance(module, ignored) and name]
    outermost = [name for name in left_out if not any(name.startswith(f"{other}.") for other in left_out)]
    root = type(model).__name__
    return flops.total - sum(flops.by_module.get(f"{root}.{name}", 0) for name in outermost)


def largest(lines: list[ModuleFlops], depth: int, count: int) -> list[tuple[str, int]]:
    """The classes of modules at a depth with the most operations, and how many."""
    sums: dict[str, int] = {}
    for line in lines:
        if line.depth == depth:
            sums[line.kind] = sums.get(line.kind, 0) + line.flops
    return sorted(sums.items(), key=lambda item: -item[1])[:count]


def quantity(count: float, unit: str) -> str:
    """'12.3 GFLOP': decimal units, three significant digits."""
    for prefix in ("", "K", "M", "G", "T", "P"):
        if abs(count) < 1000 or prefix == "P":
            break
        count /= 1000
    return f"{count:.3g} {prefix}{unit}".rstrip()


def summary(flops: Flops, what: str) -> str:
    """'forward 1.2 GFLOP (610 MMAC) in 3.1 ms, 390 GFLOP/s'."""
    rate = quantity(flops.total / flops.seconds, "FLOP/s") if flops.seconds else "no time"
    total, products = quantity(flops.total, "FLOP"), quantity(flops.total / 2, "MAC")
    return f"{what} {total} ({products}) in {flops.seconds * 1e3:.3g} ms, {rate}"


def page(model: nn.Module, flops: Flops, depth: int = -1, top: int = 1, is_detailed: bool = True) -> str:
    """Where a model's operations are: for each depth the `top` classes, then the modules down to `depth` (-1: all)."""
    lines = by_module(model, flops)
    deepest = max((line.depth for line in lines), default=0)
    deepest = deepest if depth < 0 else min(depth, deepest)
    shown = [f"{quantity(parameters_of(model), '')} parameters; {summary(flops, 'forward')}"]
    for level in range(deepest + 1):
        classes = ", ".join(f"{kind} {quantity(count, 'FLOP')}" for kind, count in largest(lines, level, top))
        shown.append(f"depth {level}: {classes}")
    if is_detailed:
        rows = [_row(line, flops) for line in lines if line.depth <= deepest]
        shown.append(table(rows, ("MODULE", "CLASS", "PARAMETERS", "OPERATIONS", "SHARE")))
    return "\n".join(shown)


def _row(line: ModuleFlops, flops: Flops) -> tuple[str, ...]:
    share = f"{100 * line.flops / flops.total:.1f} %" if flops.total else ""
    return line.name or "(all)", line.kind, quantity(line.parameters, ""), quantity(line.flops, "FLOP"), share


class StepProfile:
    """What the block flops_profiler asks for: counts one update's first micro-batch, and shows it after the update."""

    def __init__(self, config: Config) -> None:
        settings: dict[str, Any] = config.get("flops_profiler") or {}
        self._step = int(settings["profile_step"])
        self._depth, self._top = int(settings["module_depth"]), int(settings["top_modules"])
        self._is_detailed = bool(settings["detailed"])
        self._file = settings.get("output_file")
        self._counters = {"forward": Counter(), "backward": Counter()}
        self._waiting: set[str] = set(self._counters)
        self._updates = 0

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Around a part of training; each part is counted once, in the update that is asked for."""
        is_counted = name in self._waiting and self._updates + 1 == self._step and (name == "backward" or _trains())
        if not is_counted:
            yield
            return
        self._waiting.discard(name)
        with self._counters[name].running():
            yield

    def end_update(self, model: nn.Module, updates: int) -> None:
        """After an update; prints, or writes to the file, if it was the one."""
        if updates == self._step and not self._waiting:
            forward, backward = self._counters["forward"].counted, self._counters["backward"].counted
            text = page(model, forward, self._depth, self._top, self._is_detailed)
            head = f"flops of update {updates}, its first micro-batch\n{summary(backward, 'backward')}"
            show(f"{head}\n{text}", self._file)
        self._updates = updates


def _trains() -> bool:
    return torch.is_grad_enabled()


def show(text: str, file: str | None) -> None:
    """Prints, or writes to a file."""
    if file is None:
        print(text, flush=True)
    else:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(text + "\n", encoding="utf-8")


def step_profile_of(config: Config) -> StepProfile | None:
    """None unless flops_profiler.enabled."""
    return StepProfile(config) if config.get("flops_profiler.enabled") else None
