"""One run of the command: its budget, its tuning, its cases, its report."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from . import environment, machine, options, plan, tables, tuning
from .measure import Measurement, Rounds
from .progress import say
from .results import Cell, costs, put_beside, ratio
from .setting import Case, Tuning
from .shape import SMOKE, Shape
from .systems import DEEPSPEED, MATCHED, ORLOP, TUNED
from .workspace import Workspace

_SHARE = 0.8  # of what is free


class Run:
    """What was chosen, and everything that was seen."""

    def __init__(self, chosen: options.Options, workspace: Workspace) -> None:
        self.chosen = chosen
        self.workspace = workspace
        self.load = machine.load()
        self.cells: list[Cell] = []
        self.tunings: dict[Case, Tuning] = {}
        self.trials: dict[Case, list[tuning.Trial]] = {}
        self.uses_deepspeed = any(system in DEEPSPEED for system in chosen.systems)
        self.has_environment = self.uses_deepspeed or find_spec("torch") is None
        if self.has_environment:
            environment.make(chosen.deepspeed)
        python = environment.python() if self.has_environment else Path(sys.executable)
        self.variables = environment.variables(chosen.threads)
        rounds = Rounds(chosen.warm_up, chosen.steps, chosen.seed, chosen.patience, python, self.variables)
        self.measurement = Measurement(rounds, workspace, say)
        self.budget = self._budget()

    def _budget(self) -> plan.Budget:
        memory = min(self.chosen.memory_bytes, _SHARE * machine.available_memory())
        drive = min(self.chosen.drive_bytes, _SHARE * self.workspace.free_bytes())
        if memory < self.chosen.memory_bytes:
            say(f"using {memory / 1e9:.1f} GB of memory, not {self.chosen.memory_bytes / 1e9:.1f}: no more is free")
        if drive < self.chosen.drive_bytes:
            say(f"using {drive / 1e9:.1f} GB of disk, not {self.chosen.drive_bytes / 1e9:.1f}: no more is free")
        return plan.Budget(memory, drive)

    def measure(self) -> None:
        chosen = self.chosen
        cases = plan.cases(chosen.optimizers, chosen.parameters, chosen.precisions)
        shapes = {
            precision: self._shape([c for c in cases if c.precision == precision]) for precision in chosen.precisions
        }
        aio = self._sweep() if TUNED in chosen.systems and any(case.uses_drive for case in cases) else {}
        for case in cases:
            shape, systems = shapes[case.precision], plan.systems_of(case, chosen.systems)
            if TUNED in systems:
                self._tune(case, shape, aio)
            for group in plan.groups(case, systems, shape.params, self.budget):
                self.cells += self.measurement.run(group, shape, self.tunings)
            if MATCHED in systems and (matched := plan.matched(case, self.cells)):
                self.cells += self.measurement.run(matched, shape, self.tunings)
            put_beside(self.cells, ORLOP)
            self.save()

    def _shape(self, cases: Sequence[Case]) -> Shape:
        """One size for all cases of a precision, or the cost of offload could not be told."""
        shape = self.chosen.shape
        for case in cases:
            shape = plan.fitting(shape, case, plan.systems_of(case, self.chosen.systems), self.budget)
        if shape != self.chosen.shape:
            say(
                f"{cases[0].precision}: {shape.params / 1e6:.1f} M parameters, "
                f"not {self.chosen.shape.params / 1e6:.1f}: what runs side by side is to fit "
                f"{self.budget.memory_bytes / 1e9:.1f} GB of memory and {self.budget.drive_bytes / 1e9:.1f} of disk"
            )
        return shape

    def _sweep(self) -> dict[str, Any]:
        if self.chosen.shape == SMOKE:
            return {}
        say("tuning DeepSpeed's aio block: 65 settings")
        block = tuning.sweep_aio(environment.python(), self.workspace.folder, self.variables)
        say(f"aio block: {json.dumps(block)}")
        return block

    def _tune(self, case: Case, shape: Shape, aio: dict[str, Any]) -> None:
        tunings = tuning.candidates(case, shape.params, aio)
        if self.chosen.shape == SMOKE:
            self.tunings[case] = tunings[0]
            return
        seconds = lambda tried: self.measurement.seconds_per_step(TUNED, case, shape, tried)  # noqa: E731
        best, trials = tuning.choose(tunings, seconds)
        if best is not None:
            trials += tuning.choose([tuning.persistent(best)], seconds)[1]
        for trial in trials:
            say(f"{case}: DeepSpeed with {trial.tuning.name}: {trial.message or f'{trial.seconds:.2f} s'}")
        self.trials[case] = trials
        self.tunings[case] = tuning.fastest(trials) or tunings[0]

    def report(self) -> str:
        versions = environment.versions() if self.has_environment else {}
        about = machine.line(self.chosen.nvme_path, versions, self.chosen.threads, self.load)
        lines = [f"{about}; load after {machine.load():.1f}.", *self._told_tunings()]
        return tables.text(self.cells, costs(self.cells), "\n\n".join(lines))

    def _told_tunings(self) -> list[str]:
        chosen = [f"{case}: {self.tunings[case].name}" for case in self.trials]
        aio = [tuned.config["aio"] for tuned in self.tunings.values() if "aio" in tuned.config]
        told = [f"DeepSpeed's tuning: {'; '.join(chosen)}."] if chosen else []
        return told + ([f"Its aio block: `{json.dumps(aio[0])}`."] if aio else [])

    def save(self) -> None:
        """After every case: a run is long."""
        if self.chosen.json:
            self.chosen.json.write_text(json.dumps(self.values(), indent=1) + "\n")

    def values(self) -> dict[str, Any]:
        """Everything, for --json."""
        return {
            "machine": machine.line(self.chosen.nvme_path, {}, self.chosen.threads, self.load),
            "versions": environment.versions() if self.has_environment else {},
            "cells": [{**asdict(replace(cell, beside=None)), "ratio": ratio(cell)} for cell in self.cells],
            "costs": [asdict(cost) for cost in costs(self.cells)],
            "trials": [
                {"case": asdict(c), "trials": [asdict(trial) for trial in seen]} for c, seen in self.trials.items()
            ],
        }
