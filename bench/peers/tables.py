"""The report as Markdown, which is also what is printed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import PeersError
from .results import Cell, Cost, loss_difference, memory_ratio, ratio, whole
from .setting import Case
from .systems import MATCHED, ORLOP

_HEAD = (
    "system",
    "s/step",
    "fastest to slowest",
    "forward",
    "backward",
    "optimizer",
    "read",
    "written",
    "memory",
    "time / Orlop's",
    "Orlop's memory",
    "losses apart",
)
_MESSAGE_LENGTH = 200
_WIDEST = 64  # a message is longer, and has its row to itself


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown with its columns aligned."""
    every = [tuple(head), *map(tuple, rows)]
    widths = [max(min(len(row[i]), _WIDEST) for row in every) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + " |" for row in every
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def text(cells: Sequence[Cell], costs: Sequence[Cost], about: str) -> str:
    """One table per case, and one of what offload costs."""
    cases = list(dict.fromkeys(cell.case for cell in cells))
    parts = [about, *(_case_text(case, cells) for case in cases)]
    if costs:
        parts.append(_cost_text(costs))
    return "\n\n".join(parts) + "\n"


def _case_text(case: Case, cells: Sequence[Cell]) -> str:
    of_case = [cell for cell in cells if cell.case == case]
    rows = [_row(row, _beside(row, of_case)) for row in whole(of_case)]
    params = of_case[0].params / 1e6
    return f"{str(case).capitalize()}; {params:.1f} M parameters:\n\n{table(_HEAD, rows)}"


def _beside(row: Cell, of_case: Sequence[Cell]) -> Cell:
    """The cell that has Orlop's of its own group beside it."""
    return next(cell for cell in of_case if cell.system == row.system)


def _row(row: Cell, cell: Cell) -> list[str]:
    if not row.works:
        return [row.system, shown_message(row.message), *[""] * (len(_HEAD) - 2)]
    seconds: Callable[[str], str] = lambda part: _seconds(row.median(lambda sample: float(getattr(sample, part))))  # noqa: E731
    fastest, slowest = row.spread
    apart = loss_difference(cell, cell.beside.losses) if cell.beside and cell.beside.works else None
    own = row.system == ORLOP
    return [
        row.system,
        _seconds(row.seconds),
        f"{_seconds(fastest)} to {_seconds(slowest)}",
        seconds("forward"),
        seconds("backward"),
        seconds("optimizer"),
        f"{row.read_per_param:.2f} B",
        f"{row.written_per_param:.2f} B",
        f"{row.peak_bytes / 1e9:.2f} GB",
        "" if own else _or_blank(ratio(cell), "{:.2f}" if cell.in_turn else "{:.2f}, not in turn"),
        "" if own else _or_blank(memory_ratio(cell), "{:.0%}"),
        "" if own else _or_blank(apart, "{:.1e}"),
    ]


def _cost_text(costs: Sequence[Cost]) -> str:
    head = ("the cost of offload: step less the same system's in memory", "system", "s", "Orlop's", "ratio")
    rows = [
        [
            str(cost.case),
            cost.system,
            _seconds(cost.seconds),
            _seconds(cost.orlop_seconds),
            "" if cost.system == ORLOP else _or_blank(cost.ratio, "{:.2f}"),
        ]
        for cost in costs
    ]
    return table(head, rows)


def shown_message(message: str) -> str:
    """Of a length for a cell, without what would end it."""
    flat = message.replace("|", "/").replace("<", "").replace(">", "")
    return flat if len(flat) <= _MESSAGE_LENGTH else flat[: _MESSAGE_LENGTH - 3] + "..."


def _seconds(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def _or_blank(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def few_rows(cells: Sequence[Cell], costs: Sequence[Cost]) -> list[tuple[str, str]]:
    """What the README has: a sentence's beginning, and figures. Rows that were not measured are left out."""
    nvme, cpu = Case("nvme", "none", "bf16"), Case("cpu", "none", "bf16")
    found = []
    for system in ("DeepSpeed, defaults", "DeepSpeed, tuned"):
        for cost in costs:
            if (cost.case, cost.system) == (nvme, system) and cost.ratio:
                found.append((f"cost of states on NVMe, {system}", f"{cost.ratio:.2f} times Orlop's"))
        for cell in cells:
            if (cell.case, cell.system) == (nvme, system) and (times := ratio(cell)):
                found.append((f"whole step, states on NVMe, {system}", f"{times:.2f} times Orlop's"))
    alone = {cell.system: cell for cell in cells if cell.case == nvme and cell.works}
    if "DeepSpeed, defaults" in alone and MATCHED in alone:
        times = alone["DeepSpeed, defaults"].seconds / alone[MATCHED].seconds
        moved = alone[MATCHED].read_per_param + alone[MATCHED].written_per_param
        found.append(("the same, Orlop in DeepSpeed's memory", f"{times:.2f} times Orlop's, which moves {moved:.1f} B"))
    for cell in cells:
        if (cell.case, cell.system) == (cpu, "DeepSpeed, defaults") and (times := ratio(cell)):
            part = memory_ratio(cell) or 0
            found.append(
                (
                    "states in memory, DeepSpeed, defaults",
                    f"{times:.2f} times Orlop's step; Orlop has {part:.0%} of its memory",
                )
            )
    return found


def put(file: Path, between: str, markdown: str) -> None:
    """Replaces what is between a file's markers."""
    begin, end = check_markers(file, between)
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    filled = f"{begin}\n\n{markdown.strip()}\n\n{end}"
    file.write_text(re.sub(pattern, lambda _: filled, file.read_text(), flags=re.DOTALL))


def check_markers(file: Path, between: str) -> tuple[str, str]:
    """A file's markers, before hours of measuring."""
    begin, end = f"<!-- {between}: begin -->", f"<!-- {between}: end -->"
    text = file.read_text()
    if text.count(begin) != 1 or text.count(end) != 1:
        raise PeersError(f"write_docs: on {file}: the markers {begin} and {end} are not there once each")
    return begin, end
