"""A run's folder on the drive, removed at its end even if the run is killed.

A second process holds the other end of a pipe: when the run ends, in whatever way, it reads the end of that pipe and
removes the folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from .errors import PeersError


class Workspace:
    def __init__(self, nvme_path: Path) -> None:
        if not nvme_path.is_dir():
            raise PeersError(f"nvme_path: on {nvme_path}: there is no such directory; create it, or choose another")
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="orlop-peers-", dir=nvme_path))
        except OSError as error:
            raise PeersError(f"nvme_path: on {nvme_path}: {error.strerror}; choose another") from error
        command = [sys.executable, "-m", "peers.workspace", str(self.folder)]
        self._remover = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._remover.stdin is not None
        self._remover.stdin.close()
        self._remover.wait()

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.folder).free

    def empty(self) -> None:
        """Gives the drive back what ended workers had on it."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def new_folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder


def remove_after_run(folder: Path) -> None:
    """Waits for the run's end; its workers, which die with it, may write for another moment."""
    os.read(0, 1)
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


if __name__ == "__main__":
    remove_after_run(Path(sys.argv[1]))
