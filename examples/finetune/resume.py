"""Going on where an interrupted run was: checkpoints, and what of this script's own belongs to them."""

from __future__ import annotations

import json
import shutil
import time
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orlop

from .training import History, Pace, Step

EVERY = 5  # steps


class Progress:
    """The checkpoint of one kind of run, in one folder. Another kind of run starts anew."""

    def __init__(self, folder: Path, chosen: Namespace) -> None:
        self.folder = folder
        self.settings = json.dumps(
            [chosen.config, chosen.steps, chosen.minutes, chosen.seq, chosen.seed], sort_keys=True
        )
        if chosen.fresh:
            self.clear()

    def save(self, engine: orlop.Engine, history: History, pace: Pace) -> None:
        own = {
            "settings": self.settings,
            "history": asdict(history),
            "steps": pace.steps,
            "seconds": time.monotonic() - pace.begin,
        }
        engine.save_checkpoint(self.folder, client_state=own)

    def load(self, engine: orlop.Engine, pace: Pace) -> History:
        """What happened so far; an empty history when there is nothing to go on from."""
        if not (self.folder / "latest").is_file():
            return History()
        try:
            own = engine.load_checkpoint(self.folder)[1] if self._is_same_kind() else None
        except (orlop.NotFoundError, orlop.CorruptError, orlop.InvalidArgumentError) as error:
            print(f"not going on from {self.folder}: {error}")
            raise SystemExit("finetune: start anew with --fresh") from None
        if own is None:
            print(f"the checkpoint in {self.folder} is of a run with other options: starting anew")
            self.clear()
            return History()
        pace.steps = own["steps"]
        pace.begin = time.monotonic() - own["seconds"]
        history = _history(own["history"])
        print(f"going on after step {len(history.steps)} of an interrupted run (--fresh starts anew)", flush=True)
        return history

    def _is_same_kind(self) -> bool:
        tag = (self.folder / "latest").read_text().strip()
        return orlop.client_state(self.folder / tag).get("settings") == self.settings

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _history(saved: dict[str, Any]) -> History:
    steps = [Step(**{**step, "report": orlop.StepReport(**step["report"])}) for step in saved["steps"]]
    return History(**{**saved, "steps": steps, "drives": []})
