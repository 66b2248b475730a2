"""What one sees of training: lines as it goes, monitors, the profile that orlop.profile names."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from . import _log
from ._checkpoint import write_durably
from ._monitor import Events, monitors_of
from ._progress import Progress
from .flops import step_profile_of
from .report import PROFILE_FILE

if TYPE_CHECKING:
    from .config import Config
    from .engine import Engine

PHASES = ("forward", "backward", "update", "checkpoint")  # of the engine; what is left is outside it
_WRITE_EVERY = 30.0  # seconds between writes of the profile while training goes on


class Timeline:
    """Adds up phases, update by update. Measures wall time on the thread that trains; phases do not overlap."""

    def __init__(self, config: Config) -> None:
        self.begin = time.monotonic()
        self.steps: list[dict[str, Any]] = []
        name = config.get("orlop.profile") or _asked_by_environment()
        self.file = None if name is None else Path(name).absolute()
        self._progress = Progress(config)
        self._open: str | None = None
        self._since = dict.fromkeys(PHASES, 0.0)  # the last update
        self._totals = dict.fromkeys(PHASES, 0.0)
        self._last_end = self._last_write = self.begin
        self._losses: list[Tensor] = []
        self._monitors = monitors_of(config)
        self._flops = step_profile_of(config)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Counts what is done inside as a phase's, unless it is part of another one."""
        if self._open is not None:
            yield
            return
        self._open, begin = name, time.monotonic()
        try:
            with contextlib.nullcontext() if self._flops is None else self._flops.phase(name):
                yield
        finally:
            self._open = None
            self._since[name] += time.monotonic() - begin

    def note_loss(self, loss: Tensor) -> None:
        """One micro-batch's part of the update's loss. Read only when it is shown: that waits for a GPU."""
        if self.file is not None or self._progress or self._monitors:
            self._losses.append(loss.detach())

    def note_inputs(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """What the model is given, to count samples and tokens; a forward pass that is not trained with is none."""
        if self._progress and torch.is_grad_enabled():
            self._progress.note_inputs(model, args, kwargs)

    def end_update(self, engine: Engine) -> None:
        """After an update, also a skipped one."""
        now = time.monotonic()
        seconds, self._last_end = now - self._last_end, now
        phases = self._since | {"outside": max(0.0, seconds - sum(self._since.values()))}
        losses, self._losses = self._losses, []
        for name in PHASES:
            self._totals[name] += self._since[name]
        self._since = dict.fromkeys(PHASES, 0.0)
        if self._progress:
            self._progress.end_update(engine, seconds, phases)
        if self._progress.is_due(engine):
            print(self._progress.line(engine, _sum(losses)), flush=True)
        try:
            if self._flops is not None:
                self._flops.end_update(engine.module, engine.global_steps)
            self._tell(engine, losses, seconds, phases)
        except OSError as error:  # a full disk is no reason to stop training here
            _log.logger.warning("step %d: %s: this update is missing there", engine.global_steps, error)

    def _tell(self, engine: Engine, losses: list[Tensor], seconds: float, phases: dict[str, float]) -> None:
        if self.file is not None:
            self.steps.append(_record(engine, losses, seconds, phases))
            if time.monotonic() - self._last_write > _WRITE_EVERY:
                self._last_write = time.monotonic()
                self.write(engine)
        if self._monitors:
            events = _events(engine, losses)
            for monitor in self._monitors:
                monitor.write(events)

    def close(self, engine: Engine) -> None:
        """Training has ended."""
        try:
            for monitor in self._monitors:
                monitor.close()
            self.write(engine)
        except OSError as error:
            _log.logger.warning("close: %s: what was seen of training is not complete there", error)

    def write(self, engine: Engine) -> None:
        """Writes the profile, if one is asked for and there was an update. Its phases add up to its wall time."""
        if self.file is None or not self.steps:
            return
        wall = time.monotonic() - self.begin
        totals = {name: self._totals[name] + self._since[name] for name in PHASES}
        content = {
            "format": 1,
            "wall_seconds": wall,
            "phases": totals | {"outside": wall - sum(totals.values())},
            "steps": self.steps,
            "stats": engine.stats(),
            "engine": engine.describe(),
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(self.file, json.dumps(content))


def _asked_by_environment() -> str | None:
    """DEEPSPEED_PROFILE=1 writes into the current directory; any other value but 0 is the file's name."""
    value = os.environ.get("DEEPSPEED_PROFILE", "")
    if value in ("", "0"):
        return None
    return PROFILE_FILE if value == "1" else value


def _sum(losses: list[Tensor]) -> float:
    return float(sum(loss.float().sum().item() for loss in losses)) if losses else float("nan")


def _events(engine: Engine, losses: list[Tensor]) -> Events:
    values = {"train_loss": _sum(losses), "lr": engine.get_lr()[0]}
    if engine.fp16_enabled():
        values["loss_scale"] = engine.loss_scale()
    if engine.last_report is not None:
        values["grad_norm"] = engine.last_report.grad_norm
    samples = engine.global_samples or engine.global_steps
    return [(f"Train/Samples/{name}", value, samples) for name, value in values.items()]


def _record(engine: Engine, losses: list[Tensor], seconds: float, phases: dict[str, float]) -> dict[str, Any]:
    report = engine.last_report
    assert report is not None
    return {
        "step": engine.global_steps,
        "seconds": seconds,
        "phases": phases,
        "loss": _sum(losses) if losses else None,
        "lr": engine.get_lr(),
        "grad_norm": report.grad_norm,
        "loss_scale": report.loss_scale,
        "skipped": bool(report.skipped),
        "exposed_io": report.exposed_io_seconds,
        "hidden_io": report.hidden_io_seconds,
        "adam": report.adam_seconds,
        "unit_wait": report.unit_wait_seconds,
        "unit_copy": report.unit_copy_seconds,
        "nvme_read_bytes": report.nvme_read_bytes,
        "nvme_write_bytes": report.nvme_write_bytes,
    }
