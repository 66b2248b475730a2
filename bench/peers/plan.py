"""Which cases, how large a model, and who runs side by side, within a budget of memory and disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from . import footprint
from .errors import PeersError
from .results import Cell
from .setting import Case
from .shape import Shape
from .systems import ALL, DEEPSPEED, MATCHED, ORLOP, takes_part


@dataclass(frozen=True)
class Budget:
    memory_bytes: float
    drive_bytes: float


@dataclass(frozen=True)
class Group:
    """Systems that take turns. Orlop is in every group, so that each other has it beside itself, unless they do not fit
    together: then, where no drive's drift can come between them, each runs alone."""

    case: Case
    systems: tuple[str, ...]
    host_budget: int = 0


def cases(optimizers: Iterable[str], parameters: Iterable[str], precisions: Iterable[str]) -> list[Case]:
    """Every combination, the one in memory first: the cost of offload is told against it."""
    every = [Case(o, p, x) for x in precisions for p in parameters for o in optimizers]
    order = ("none", "cpu", "nvme")
    return sorted(every, key=lambda c: (c.precision, order.index(c.parameters), order.index(c.optimizer)))


def systems_of(case: Case, chosen: Sequence[str] = ALL) -> list[str]:
    return [system for system in chosen if takes_part(system, case)]


def fitting(shape: Shape, case: Case, systems: Sequence[str], budget: Budget) -> Shape:
    """The shape, with fewer layers where those that must run together do not fit."""
    systems = [system for system in systems if system != MATCHED]  # runs alone
    together = _pairs(systems) if case.uses_drive else [[system] for system in systems]
    while any(not _fits(case, some, shape.params, budget) for some in together):
        if shape.layers == 1:
            raise PeersError(
                f"memory and disk: {budget.memory_bytes / 1e9:.1f} and {budget.drive_bytes / 1e9:.1f} GB: too little "
                "for a model of this width; give --params a smaller number"
            )
        shape = shape.with_at_most(shape.params - 1)
    return shape


def groups(case: Case, systems: Sequence[str], params: int, budget: Budget) -> list[Group]:
    """As few groups as fit, filled in order."""
    made: list[list[str]] = []
    for system in systems:
        if system in (ORLOP, MATCHED):
            continue
        if made and _fits(case, [*made[-1], system, ORLOP], params, budget):
            made[-1].append(system)
        else:
            made.append([system])
    if ORLOP in systems:
        for some in made:
            if _fits(case, [*some, ORLOP], params, budget):
                some.append(ORLOP)
        if not any(ORLOP in some for some in made):
            made.append([ORLOP])
    return [Group(case, tuple(some)) for some in made]


def matched(case: Case, cells: Iterable[Cell]) -> Group | None:
    """Orlop with the memory that DeepSpeed took in the case; alone, since both at once would be too much."""
    peaks = [cell.peak_bytes for cell in cells if cell.case == case and cell.system in DEEPSPEED and cell.works]
    if not peaks:
        return None
    return Group(case, (MATCHED,), host_budget=int(max(peaks) - footprint.BASE_BYTES))


def _pairs(systems: Sequence[str]) -> list[list[str]]:
    return [[system] if system == ORLOP else [system, ORLOP] for system in systems]


def _fits(case: Case, systems: Sequence[str], params: int, budget: Budget) -> bool:
    memory = sum(footprint.memory_bytes(system, case, params) for system in systems)
    drive = sum(footprint.drive_bytes(system, case, params) for system in systems)
    return memory <= budget.memory_bytes and drive <= budget.drive_bytes
