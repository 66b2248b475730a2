"""What was measured, and the arithmetic on it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .setting import Case


@dataclass(frozen=True)
class Sample:
    """One step of one system. Seconds; bytes by the kernel's accounting, until the next step began."""

    forward: float
    backward: float
    optimizer: float
    loss: float
    read_bytes: int = 0
    written_bytes: int = 0

    @property
    def seconds(self) -> float:
        return self.forward + self.backward + self.optimizer


@dataclass
class Cell:
    """One system in one group of one case."""

    case: Case
    system: str
    params: int
    samples: list[Sample] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Of every step, those that warmed up included."""
    peak_bytes: int = 0
    message: str = ""
    """Its own, where it failed."""
    beside: Cell | None = None
    """Orlop's cell: of the same group, or of the case where it ran alone."""
    in_turn: bool = True
    """Whether `beside` was measured step by step in turn with this."""

    @property
    def works(self) -> bool:
        return not self.message and bool(self.samples)

    def median(self, value: Callable[[Sample], float]) -> float:
        return statistics.median(map(value, self.samples))

    @property
    def seconds(self) -> float:
        return self.median(lambda sample: sample.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """The fastest and the slowest step: a handful of steps has no percentiles."""
        every = [sample.seconds for sample in self.samples]
        return min(every), max(every)

    @property
    def read_per_param(self) -> float:
        return self.median(lambda sample: sample.read_bytes) / self.params

    @property
    def written_per_param(self) -> float:
        return self.median(lambda sample: sample.written_bytes) / self.params


def ratio(cell: Cell) -> float | None:
    """How many times as long its steps take as Orlop's: the median over rounds, or, without these, of the medians."""
    other = cell.beside
    if other is None or not (cell.works and other.works):
        return None
    if not cell.in_turn:
        return cell.seconds / other.seconds
    rounds = zip(cell.samples, other.samples, strict=False)
    return statistics.median(theirs.seconds / ours.seconds for theirs, ours in rounds)


def memory_ratio(cell: Cell) -> float | None:
    """Orlop's peak memory as a part of its."""
    other = cell.beside
    if other is None or not (cell.works and other.works):
        return None
    return other.peak_bytes / cell.peak_bytes


def loss_difference(cell: Cell, reference: Sequence[float]) -> float | None:
    """The largest relative difference of losses, step by step; None where there are none to compare."""
    pairs = list(zip(cell.losses, reference, strict=False))
    if not pairs:
        return None
    return max(abs(a - b) / max(abs(b), 1e-9) for a, b in pairs)


@dataclass(frozen=True)
class Cost:
    """Of offload: a step less the same system's step with everything in memory, and Orlop's, from the same rounds."""

    case: Case
    system: str
    seconds: float
    orlop_seconds: float

    @property
    def ratio(self) -> float | None:
        return self.seconds / self.orlop_seconds if self.orlop_seconds > 0 else None


def costs(cells: Sequence[Cell]) -> list[Cost]:
    """For every system of every case with offload whose step in memory was measured with the same model."""
    memory = {(c.case, c.system): c for c in cells if c.case == c.case.in_memory and c.works}
    found = []
    for cell in cells:
        base = memory.get((cell.case.in_memory, cell.system))
        if cell.beside is None or base is None or base.beside is None or cell.case == cell.case.in_memory:
            continue
        if all(one.works and one.params == cell.params for one in (cell, base, cell.beside, base.beside)):
            ours = cell.beside.seconds - base.beside.seconds
            found.append(Cost(cell.case, cell.system, cell.seconds - base.seconds, ours))
    return found


def put_beside(cells: Sequence[Cell], system: str) -> None:
    """Gives cells whose group did not have `system` its cell from another group of their case."""
    alone = {cell.case: cell for cell in cells if cell.system == system and cell.works}
    for cell in cells:
        if cell.beside is None and cell.system != system and cell.case in alone:
            cell.beside, cell.in_turn = alone[cell.case], False


def whole(cells: Sequence[Cell]) -> list[Cell]:
    """A row for each system and case: Orlop's cells of a case's groups put together."""
    rows: dict[tuple[Case, str], Cell] = {}
    for cell in cells:
        row = rows.get((cell.case, cell.system))
        if row is None:
            rows[cell.case, cell.system] = cell
        elif cell.works:
            samples = (row.samples if row.works else []) + cell.samples
            peak = max(row.peak_bytes, cell.peak_bytes)
            rows[cell.case, cell.system] = Cell(cell.case, cell.system, cell.params, samples, cell.losses, peak)
    return list(rows.values())
