"""A worker process: one system and one case, a step at a time as the pipe says.

It is sent lines on standard input, `step` or `end`, and answers each with a line of JSON on what was its standard
output; what libraries print goes to its log. A line with "error" is its last.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from typing import Any, TextIO

from . import end_with_parent, usage
from .errors import first_line
from .setting import Setting


def main() -> None:
    end_with_parent.ask()
    answers = _take_standard_output()
    try:
        _serve(Setting.of(sys.argv[1]), answers)
    except BaseException as error:
        _answer(answers, {"error": first_line(error)})
        raise


def _take_standard_output() -> TextIO:
    """Answers go where standard output went; prints of libraries to standard error, which is the log."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _answer(answers: TextIO, values: dict[str, Any]) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()


def _serve(setting: Setting, answers: TextIO) -> None:
    import torch

    from . import model as models
    from . import systems

    dtype = torch.bfloat16 if setting.case.precision == "bf16" else torch.float32
    model = models.make(setting.shape, dtype, setting.seed)
    system = systems.start(setting, model)
    _answer(answers, {"params": setting.shape.params})
    for step, line in enumerate(sys.stdin):
        if line.strip() != "step":
            break
        _answer(answers, _one_step(system, setting, step))
    _answer(answers, {"drive_bytes": usage.drive_bytes(), "peak_bytes": usage.peak_bytes()})
    system.close()


def _one_step(system: Any, setting: Setting, step: int) -> dict[str, Any]:
    from . import model as models

    tokens, targets = models.batch(setting.shape, step, setting.seed)
    before = usage.drive_bytes()  # differences between beginnings have what is written behind a step, too
    times = [time.perf_counter()]
    loss = models.loss_of(system.forward(tokens), targets)
    times.append(time.perf_counter())
    system.backward(loss)
    times.append(time.perf_counter())
    system.step()
    times.append(time.perf_counter())
    forward, backward, optimizer = (end - begin for begin, end in itertools.pairwise(times))
    return {
        "forward": forward,
        "backward": backward,
        "optimizer": optimizer,
        "loss": loss.item(),
        "drive_bytes": before,
    }


if __name__ == "__main__":
    main()
