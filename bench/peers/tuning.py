"""Tuning DeepSpeed as its user would: its "aio" block by its tuner's method, the rest by trying what its documents
recommend on the very model, and keeping the fastest. What fails is noted with its message and left out.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .errors import WorkerFailed
from .progress import say
from .setting import Case, Tuning

SWEEP_BYTES = 128 << 20
_NATIVE_PINNING = {"DS_PIN_MEMORY_BACKEND": "native"}  # on processors its default pins nothing, and copies instead
_PIPELINE = {"pipeline_read": True, "pipeline_write": True}


@dataclass(frozen=True)
class Trial:
    """A candidate and what came of it: seconds per step, or a message."""

    tuning: Tuning
    seconds: float | None
    message: str = ""


def sweep_aio(python: Path, folder: Path, extra: dict[str, str]) -> dict[str, Any]:
    """The "aio" block that is fastest on this drive; empty where DeepSpeed cannot be asked."""
    command = [str(python), "-m", "peers.aio_sweep", str(folder), str(SWEEP_BYTES)]
    done = subprocess.run(command, text=True, capture_output=True, env={**os.environ, **extra})
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        say(f"DeepSpeed's aio block stays as it is by default: {lines[-1] if lines else 'no word'}")
        return {}
    block: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return block


def candidates(case: Case, params: int, aio: dict[str, Any]) -> list[Tuning]:
    """What is worth trying where the states of a case are."""
    calm = {"overlap_comm": False, "reduce_bucket_size": 50_000_000}  # one rank has nothing to overlap
    base = Tuning(environment=_NATIVE_PINNING, config={"aio": aio} if aio else {}, zero=calm)
    if not case.uses_drive:
        return [replace(base, name="pinned memory", config={}), replace(base, name="its own memory", environment={})]
    found = [replace(base, name="tuned aio")]
    if case.optimizer != "nvme":
        return found
    for parts in (4, 12):
        zero = calm | {"sub_group_size": params // parts}
        # Three more buffers for each of the two tiles that are under way: with fewer its pipeline stops.
        pipeline = _PIPELINE | {"buffer_count": 12}
        found.append(replace(base, name=f"{parts} sub-groups, pipelined", zero=zero, offload_optimizer=pipeline))
        found.append(replace(base, name=f"{parts} sub-groups", zero=zero))
    return found


def choose(tunings: list[Tuning], seconds_per_step: Callable[[Tuning], float]) -> tuple[Tuning | None, list[Trial]]:
    """The fastest of those that work, and what was seen of each."""
    trials = []
    for tuning in tunings:
        try:
            trials.append(Trial(tuning, seconds_per_step(tuning)))
        except WorkerFailed as failure:
            trials.append(Trial(tuning, None, str(failure)))
    return fastest(trials), trials


def fastest(trials: Iterable[Trial]) -> Tuning | None:
    """None where nothing worked."""
    worked = [(trial.seconds, i, trial.tuning) for i, trial in enumerate(trials) if trial.seconds is not None]
    return min(worked, key=lambda one: one[:2])[2] if worked else None


def persistent(tuning: Tuning) -> Tuning:
    """The same with all parameters kept as they are between layers, which one rank can afford."""
    keep = {"stage3_param_persistence_threshold": 10**9, "stage3_model_persistence_threshold": 10**12}
    return replace(tuning, name=f"{tuning.name}, parameters persist", zero=tuning.zero | keep)
