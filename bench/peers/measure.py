"""Runs groups: their workers side by side, one step of each in turn."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import WorkerFailed
from .plan import Group
from .results import Cell, Sample
from .setting import Case, Setting, Tuning
from .shape import Shape
from .systems import ORLOP, TUNED
from .workers import Worker
from .workspace import Workspace


@dataclass(frozen=True)
class Rounds:
    """How often, and how."""

    warm_up: int
    steps: int
    seed: int
    patience: float
    python: Path
    variables: Mapping[str, str]


@dataclass
class Turn:
    """A worker and what came from it."""

    worker: Worker
    cell: Cell
    begins: list[tuple[int, int]]
    """The kernel's counts when each step began."""


class Measurement:
    def __init__(self, rounds: Rounds, workspace: Workspace, say: Callable[[str], None]) -> None:
        self._rounds = rounds
        self._workspace = workspace
        self._say = say
        self._made = 0

    def run(
        self, group: Group, shape: Shape, tunings: Mapping[Case, Tuning], rounds: Rounds | None = None
    ) -> list[Cell]:
        """Starts all, warms up, and gives each a step in turn; in every other round in reverse."""
        rounds = rounds or self._rounds
        with contextlib.ExitStack() as stack:
            tuning = tunings.get(group.case, Tuning())
            turns = [self._start(stack, system, group, shape, tuning) for system in group.systems]
            for i in range(rounds.warm_up + rounds.steps):
                self._say(f"{group.case}: step {i + 1} of each of {len(turns)}")
                for turn in turns if i % 2 == 0 else reversed(turns):
                    self._step(turn)
            for turn in turns:
                self._end(turn, rounds.warm_up)
        self._workspace.empty()
        cells = [turn.cell for turn in turns]
        ours = next((cell for cell in cells if cell.system == ORLOP), None)
        for cell in cells:
            cell.beside = ours if cell is not ours else None
        return cells

    def seconds_per_step(self, system: str, case: Case, shape: Shape, tuning: Tuning) -> float:
        """Of one system alone, few steps: for choosing between tunings."""
        rounds = replace(self._rounds, warm_up=1, steps=2)
        cell = self.run(Group(case, (system,)), shape, {case: tuning}, rounds)[0]
        if not cell.works:
            raise WorkerFailed(cell.message)
        return cell.seconds

    def _start(self, stack: contextlib.ExitStack, system: str, group: Group, shape: Shape, tuning: Tuning) -> Turn:
        case = group.case
        self._say(f"{case}: starting {system}")
        self._made += 1
        folder = self._workspace.new_folder(f"{self._made}")
        tuning = tuning if system == TUNED else Tuning()
        setting = Setting(system, case, shape, self._rounds.seed, str(folder), tuning, group.host_budget)
        log = self._workspace.folder / f"{self._made}.log"
        rounds = self._rounds
        worker = stack.enter_context(Worker(rounds.python, setting, log, rounds.patience, rounds.variables))
        turn = Turn(worker, Cell(case, system, shape.params), [])
        try:
            worker.wait_until_ready()
        except WorkerFailed as failure:
            self._fail(turn, failure)
        return turn

    def _step(self, turn: Turn) -> None:
        if turn.cell.message:
            return
        try:
            answer = turn.worker.step()
        except WorkerFailed as failure:
            self._fail(turn, failure)
            return
        turn.begins.append(tuple(answer.pop("drive_bytes")))
        turn.cell.samples.append(Sample(**answer))

    def _end(self, turn: Turn, warm_up: int) -> None:
        cell = turn.cell
        if cell.message:
            return
        try:
            last = turn.worker.end()
        except WorkerFailed as failure:
            self._fail(turn, failure)
            return
        cell.peak_bytes = last["peak_bytes"]
        cell.losses = [sample.loss for sample in cell.samples]
        counts = [*turn.begins, tuple(last["drive_bytes"])]
        cell.samples = with_bytes(cell.samples, counts)[warm_up:]

    def _fail(self, turn: Turn, failure: WorkerFailed) -> None:
        turn.cell.message = str(failure)
        turn.cell.samples = []
        self._say(f"{turn.cell.case}: {turn.cell.system}: {failure}")


def with_bytes(samples: Sequence[Sample], counts: Sequence[tuple[int, int]]) -> list[Sample]:
    """Each step's bytes are those until the next begins: what is written behind a step belongs to it."""
    spans = itertools.pairwise(counts)
    return [
        replace(sample, read_bytes=end[0] - begin[0], written_bytes=end[1] - begin[1])
        for sample, (begin, end) in zip(samples, spans, strict=True)
    ]
