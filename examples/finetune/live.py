"""What one sees while it trains: a line that renews itself on a terminal, one line per step elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import orlop

from .training import Drive, History, Pace

GIB = 2.0**30


def clock(seconds: float) -> str:
    """2:07 for 127 seconds."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}"


def rates(report: orlop.StepReport) -> tuple[float, float]:
    """GB/s read and written while the drive was busy."""
    busy = report.busy_seconds
    if busy == 0:
        return 0.0, 0.0
    return report.nvme_read_bytes / busy / 1e9, report.nvme_write_bytes / busy / 1e9


def line(history: History, pace: Pace) -> str:
    """The latest step in one line."""
    step = history.steps[-1]
    report = step.report
    read, written = rates(report)
    recent = history.steps[-5:]
    a_step = sum(each.seconds for each in recent) / len(recent)
    left = min((history.planned - len(history.steps)) * a_step, pace.seconds - (time.monotonic() - pace.begin))
    stats = history.stats
    memory = f"{stats['host_bytes'] / GIB:.2f}"
    if stats["host_budget_bytes"]:
        memory += f" of {stats['host_budget_bytes'] / GIB:.2f}"
    return (
        f"loss {step.loss:.3f}  {step.tokens / step.seconds:.0f} tok/s  "
        f"read {read:.1f} write {written:.1f} GB/s  "
        f"I/O hidden {report.hidden_io_seconds:.2f} exposed {report.waited_io_seconds:.2f} s  "
        f"memory {memory} GiB  left {clock(left)}"
    )


def drive_line(drive: Drive) -> str:
    """The latest step of one drive."""
    busy = drive.busy_seconds or 1.0
    return (
        f"{drive.path}  read {drive.read_bytes / busy / 1e9:.2f} write {drive.write_bytes / busy / 1e9:.2f} GB/s while "
        f"busy ({drive.busy_seconds:.2f} s)  {drive.share:.0%} of what is written"
    )


@contextlib.contextmanager
def display(pace: Pace) -> Iterator[Callable[[History], None]]:
    """Gives the function that shows a history as it is now."""
    if sys.stdout.isatty():
        with _terminal(pace) as show:
            yield show
    else:
        yield lambda history: _print(history, pace)


def _print(history: History, pace: Pace) -> None:
    if history.note:
        print(history.note)
        history.note = ""
    print(f"step {len(history.steps)}/{history.planned}  {line(history, pace)}", flush=True)


@contextlib.contextmanager
def _terminal(pace: Pace) -> Iterator[Callable[[History], None]]:
    from rich.console import Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.text import Text

    columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(bar_width=12), TextColumn("{task.description}"))
    progress = Progress(*columns)
    task = progress.add_task("measuring the held-out loss ...", total=pace.steps)
    with Live(progress) as live:

        def show(history: History) -> None:
            if history.note:
                live.console.print(history.note, highlight=False)
                history.note = ""
            done = len(history.steps)
            progress.update(task, completed=done, total=history.planned, description=line(history, pace))
            live.update(Group(progress, *(Text(drive_line(drive)) for drive in history.drives)))

        yield show
