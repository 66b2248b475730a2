"""What it came to: the losses, the bytes, the memory, and a picture."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .live import GIB, clock
from .training import History

# A 16-bit parameter and its gradient, an fp32 master and Adam's two fp32 moments.
BYTES_IN_MEMORY = {"parameters": 2, "gradients": 2, "masters": 4, "moments": 8}


@dataclass
class Outcome:
    """All that the summary says, as numbers. Sizes in bytes, times in seconds."""

    history: History
    peak_process_bytes: int
    training_seconds: float
    was_interrupted: bool
    hook_seconds: float | None = None  # per gradient
    gradients_per_step: int = 0

    @property
    def stats(self) -> dict[str, Any]:
        return self.history.stats

    @property
    def steps(self) -> int:
        return len(self.history.steps)

    def losses(self) -> tuple[float, float]:
        """Training loss, the means of the first and last few steps."""
        values = [step.loss for step in self.history.steps]
        few = max(1, min(5, len(values) // 2))
        return sum(values[:few]) / few, sum(values[-few:]) / few


def peak_process_bytes() -> int:
    """The most memory this process has had at once (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def text(outcome: Outcome) -> str:
    """The summary, a few lines."""
    if not outcome.steps:
        return "stopped before the first step"
    lines = [*_training(outcome), *_store(outcome), *_memory(outcome), *_python(outcome)]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:>{width}}  {said}" for name, said in lines)


def _training(outcome: Outcome) -> list[tuple[str, str]]:
    history = outcome.history
    first, last = outcome.losses()
    tokens = sum(step.tokens for step in history.steps)
    busy = sum(step.seconds for step in history.steps)
    stopped = f" of {history.planned} planned (interrupted)" if outcome.was_interrupted else ""
    lines = [
        (
            "steps",
            f"{outcome.steps}{stopped}, {tokens:,} tokens in {clock(outcome.training_seconds)}, "
            f"{tokens / busy:.0f} tokens/s",
        ),
        ("training loss", f"{first:.3f} -> {last:.3f}"),
    ]
    if len(history.held_out) > 1:
        lines.append(("held-out loss", " -> ".join(f"{loss:.3f}" for _, loss in history.held_out)))
    return lines


def _store(outcome: Outcome) -> list[tuple[str, str]]:
    stats, steps = outcome.stats, outcome.steps
    if not stats["nvme_bytes"]:
        return [("store", "none: the states are in host memory")]
    read, written = stats["nvme_read_bytes"] / steps, stats["nvme_write_bytes"] / steps
    hidden = stats["hidden_io_seconds"] / steps
    exposed = (stats["exposed_io_seconds"] + stats["unit_wait_seconds"]) / steps
    busy = hidden + exposed or 1.0
    return [
        (
            "store",
            f"{stats['nvme_bytes'] / GIB:.2f} GiB on disk; each step reads {read / 1e9:.2f} GB and writes "
            f"{written / 1e9:.2f} GB: {(read + written) / stats['params']:.1f} bytes per parameter",
        ),
        (
            "drive",
            f"{read / busy / 1e9:.1f} GB/s read and {written / busy / 1e9:.1f} written while busy; of {busy:.2f} s "
            f"per step {hidden:.2f} hidden behind computing, {exposed:.2f} exposed",
        ),
    ]


def _memory(outcome: Outcome) -> list[tuple[str, str]]:
    stats = outcome.stats
    parameters = stats["params"]
    each = sum(BYTES_IN_MEMORY.values())
    in_memory = parameters * each
    budget = f" of a budget of {stats['host_budget_bytes'] / GIB:.2f}" if stats["host_budget_bytes"] else ""
    parts = " + ".join(f"{size} {name}" for name, size in BYTES_IN_MEMORY.items())
    return [
        (
            "memory",
            f"engine {stats['host_bytes'] / GIB:.2f} GiB{budget}: {stats['model_bytes'] / GIB:.2f} parameters and "
            f"gradients, {stats['staging_bytes'] / GIB:.2f} staging",
        ),
        (
            "without it",
            f"{parameters / 1e6:.1f} M parameters x {each} bytes ({parts}) = {in_memory / GIB:.2f} GiB",
        ),
        (
            "process",
            f"{outcome.peak_process_bytes / GIB:.2f} GiB at its peak (VmHWM), torch, activations and loading included; "
            f"with all of it in memory {(outcome.peak_process_bytes - stats['host_bytes'] + in_memory) / GIB:.2f}",
        ),
    ]


def _python(outcome: Outcome) -> list[tuple[str, str]]:
    if outcome.hook_seconds is None:
        return []
    a_step = sum(step.seconds for step in outcome.history.steps) / outcome.steps
    cost = outcome.hook_seconds * outcome.gradients_per_step
    return [
        (
            "Python",
            f"{outcome.gradients_per_step} gradient hooks of {outcome.hook_seconds * 1e6:.1f} us = "
            f"{cost * 1e3:.2f} ms, {100 * cost / a_step:.3f} % of a step",
        )
    ]


def save(outcome: Outcome, folder: Path) -> list[Path]:
    """Writes the numbers into `folder`, and the picture unless Ctrl-C asked for a quick end."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = folder / "summary.json"
    numbers.write_text(json.dumps(asdict(outcome), indent=1))
    if not outcome.steps or outcome.was_interrupted:
        return [numbers]
    return [numbers, _picture(outcome, folder / "loss.png")]


def _picture(outcome: Outcome, file: Path) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    losses = [step.loss for step in outcome.history.steps]
    figure, axes = pyplot.subplots(figsize=(8, 4.5), dpi=120)
    steps = range(1, len(losses) + 1)
    axes.plot(steps, losses, color="#9db7d5", linewidth=1, label="training, each step")
    axes.plot(steps, _smoothed(losses), color="#2b5c93", linewidth=2, label="training, mean of 9 steps")
    if outcome.history.held_out:
        axes.plot(*zip(*outcome.history.held_out, strict=True), "o-", color="#c8502d", linewidth=2, label="held out")
    axes.set(
        xlabel="step",
        ylabel="loss (nats per token)",
        title="SmolLM2-135M on the King James Bible, states on "
        + ("NVMe" if outcome.stats["nvme_bytes"] else "the host"),
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(file)
    return file


def _smoothed(values: list[float], width: int = 9) -> list[float]:
    half = width // 2
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]
