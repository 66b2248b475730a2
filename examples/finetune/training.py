"""The training itself: steps, held-out loss, and keeping to the time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orlop
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .text import Corpus

HELD_OUT_WINDOWS = 12
WARM_UP_STEPS = 5
MEASURED_STEPS = 3  # what the pace is judged by
LEAST_STEPS = 10


@dataclass
class Step:
    """One update, as it was."""

    loss: float
    seconds: float
    tokens: int
    report: orlop.StepReport


@dataclass
class Drive:
    """What one drive did during a step."""

    path: str
    read_bytes: int
    write_bytes: int
    busy_seconds: float
    share: float
    """Of what is written, now."""


def drives_of(engine: orlop.Engine, before: list[Drive]) -> tuple[list[Drive], list[Drive]]:
    """What each drive of the engine has done since it was opened, and since `before`."""
    every = [
        Drive(**{name: drive[name] for name in Drive.__dataclass_fields__})
        for drive in engine.describe().get("nvme", {}).get("by_drive", ())
    ]
    if not before:
        return every, []
    return every, [
        Drive(
            now.path,
            now.read_bytes - then.read_bytes,
            now.write_bytes - then.write_bytes,
            now.busy_seconds - then.busy_seconds,
            now.share,
        )
        for now, then in zip(every, before, strict=True)
    ]


@dataclass
class History:
    """What happened so far."""

    steps: list[Step] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)  # after how many steps: the loss
    planned: int = 0
    note: str = ""
    stats: dict[str, Any] = field(default_factory=dict)  # the engine's, after the latest step
    drives: list[Drive] = field(default_factory=list)  # during the latest step


class Pace:
    """How many steps fit into the time. Judged once, after the first few; the learning rate follows."""

    def __init__(self, steps: int, minutes: float) -> None:
        self.steps = steps
        self.seconds = minutes * 60
        self.begin = time.monotonic()

    def judge(self, done: int, held_out_seconds: float) -> str:
        """Fewer steps if they would not fit; a sentence then."""
        left = self.seconds - (time.monotonic() - self.begin)
        a_step = (self.seconds - left - held_out_seconds) / done
        fit = done + math.floor((left - 4 * held_out_seconds) / a_step)
        wanted, self.steps = self.steps, max(LEAST_STEPS, min(self.steps, fit))
        if self.steps >= wanted:
            return ""
        return (
            f"{wanted} steps would take {wanted * a_step / 60:.1f} minutes on this machine ({a_step:.1f} s each): "
            f"doing {self.steps}"
        )

    def is_over(self) -> bool:
        return time.monotonic() - self.begin > self.seconds

    def learning_rate(self, step: int) -> float:
        """The factor for a step: up over the first few, then half a cosine down to a tenth."""
        warm = min(1.0, (step + 1) / WARM_UP_STEPS)
        return warm * (0.55 + 0.45 * math.cos(math.pi * min(1.0, step / self.steps)))


def loss_of(model: Callable[..., Any], windows: Tensor) -> Tensor:
    """Mean cross entropy of each window's next tokens."""
    logits = model(input_ids=windows[:, :-1]).logits
    return cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())


def held_out_loss(model: torch.nn.Module, corpus: Corpus) -> float:
    """The loss on windows spread over the held-out chapters."""
    count = min(HELD_OUT_WINDOWS, len(corpus.held_out))
    chosen = corpus.held_out[torch.linspace(0, len(corpus.held_out) - 1, count).long()]
    model.eval()
    with torch.inference_mode():
        losses = [loss_of(model, windows).item() * len(windows) for windows in torch.split(chosen, 4)]
    model.train()
    return sum(losses) / count


def train(
    engine: orlop.Engine, corpus: Corpus, pace: Pace, seed: int, history: History, show: Callable[[Any], None]
) -> None:
    """Trains until the steps are done or the time is over, and records it in `history` as it goes.

    A history with steps in it is gone on with: its batches are not seen again.
    """
    history.planned = pace.steps
    history.stats = engine.stats()
    begin = time.monotonic()
    if not history.steps:
        history.held_out.append((0, held_out_loss(engine, corpus)))
    held_out_seconds = time.monotonic() - begin
    batches = corpus.batches(engine.train_micro_batch_size_per_gpu() or 1, seed)
    for _ in range(len(history.steps) * engine.gradient_accumulation_steps()):
        next(batches)
    moved, _ = drives_of(engine, [])
    while len(history.steps) < pace.steps and not pace.is_over():
        history.steps.append(_update(engine, batches))
        history.stats = engine.stats()
        moved, history.drives = drives_of(engine, moved)
        done = len(history.steps)
        if done == MEASURED_STEPS:
            history.note = pace.judge(done, held_out_seconds)
            history.planned = pace.steps
        show(history)
        if done < pace.steps and done % max(1, pace.steps // 4) == 0:
            history.held_out.append((done, held_out_loss(engine, corpus)))
    history.held_out.append((len(history.steps), held_out_loss(engine, corpus)))


def _update(engine: orlop.Engine, batches: Any) -> Step:
    begin = time.monotonic()
    losses, tokens = [], 0
    for _ in range(engine.gradient_accumulation_steps()):
        windows = next(batches)
        loss = loss_of(engine, windows)
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
        tokens += windows[:, 1:].numel()
    assert engine.last_report is not None
    return Step(sum(losses) / len(losses), time.monotonic() - begin, tokens, engine.last_report)
