"""The parent's side of a worker process."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from . import end_with_parent
from .errors import WorkerFailed
from .setting import Setting

_PATIENCE_AT_THE_END = 30.0  # seconds: everything has been measured


class Worker:
    """A system that trains one case, step by step as it is told."""

    def __init__(self, python: Path, setting: Setting, log: Path, patience: float, extra: Mapping[str, str]) -> None:
        self._patience = patience
        self._log = log
        self._unread = b""
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [python, "-m", "peers.worker", setting.text()],
                bufsize=0,  # closing has nothing left to send to one that is gone
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, **extra, **end_with_parent.environment()},
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def wait_until_ready(self) -> dict[str, Any]:
        return self._answer("starting")

    def step(self) -> dict[str, Any]:
        return self._ask("step")

    def end(self) -> dict[str, Any]:
        """The counts at the end; the worker then gives back what it holds."""
        last = self._ask("end")
        try:
            self._process.wait(_PATIENCE_AT_THE_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return last

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command.encode() + b"\n")
        except BrokenPipeError:
            raise WorkerFailed(self._last_words(command)) from None
        return self._answer(command)

    def _answer(self, doing: str) -> dict[str, Any]:
        line = self._read_line(doing)
        if not line:
            raise WorkerFailed(self._last_words(doing))
        values: dict[str, Any] = json.loads(line)
        if "error" in values:
            raise WorkerFailed(values["error"])
        return values

    def _read_line(self, doing: str) -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        end = time.monotonic() + self._patience
        while b"\n" not in self._unread:
            if not select.select([fd], [], [], max(0.0, end - time.monotonic()))[0]:
                raise WorkerFailed(f"no answer within {self._patience:.0f} s while {doing}")
            some = os.read(fd, 65536)
            if not some:
                return b""
            self._unread += some
        line, self._unread = self._unread.split(b"\n", 1)
        return line

    def _last_words(self, doing: str) -> str:
        status = self._process.wait()
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return f"{how} while {doing}" + (f": {lines[-1].strip()}" if lines else "")
