"""The command lines that start a command on other machines."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .constants import PDSH_LAUNCHER, PDSH_MAX_FAN_OUT

DEEPSPEED_ENVIRONMENT_NAME = os.environ.get("DS_ENV_FILE", ".deepspeed_env")  # a file of lines NAME=VALUE
DEEPSPEED_ENVIRONMENT_PATHS = [str(Path.home()), "."]  # the later one wins
EXPORT_ENVS = ["DS_", "MLFLOW", "MV2", "NCCL", "ORLOP", "PYTHON", "UCX"]  # names that begin so go along


@dataclass(frozen=True)
class Remote:
    """How other machines are reached, and what their shells are told first."""

    launcher: str
    arguments: Sequence[str] = ()
    ssh_port: int | None = None
    venv_script: str | None = None
    exports: Mapping[str, str] = field(default_factory=dict)

    def commands(self, hosts: Sequence[str], words: Callable[[str], list[str]]) -> list[list[str]]:
        """One command line for all machines with pdsh, one for each with ssh.

        words: gives the command that a machine runs, for its number as text.
        """
        if self.launcher == PDSH_LAUNCHER:
            text = self._shell(words(_NUMBER)).replace("%", "%%").replace(_NUMBER, "%n")
            pdsh = [PDSH_LAUNCHER, "-S", "-f", str(PDSH_MAX_FAN_OUT), "-w", ",".join(hosts), *self.arguments]
            return [[*pdsh, text]]
        # A terminal (-tt), so that the machine ends its ranks when this end goes away.
        port = [] if self.ssh_port is None else ["-p", str(self.ssh_port)]
        ssh = ["ssh", "-tt", *port, *self.arguments]
        return [[*ssh, host, self._shell(words(str(number)))] for number, host in enumerate(hosts)]

    def environment(self) -> dict[str, str]:
        """For the launcher itself."""
        port = {} if self.ssh_port is None else {"PDSH_SSH_ARGS_APPEND": f"-p {self.ssh_port}"}
        return {**os.environ, "PDSH_RCMD_TYPE": "ssh", **port}

    def _shell(self, words: list[str]) -> str:
        """One line for the other machine's shell: variables, this folder, the command."""
        parts = [f"source {shlex.quote(self.venv_script)}"] if self.venv_script else []
        parts += [f"export {name}={shlex.quote(value)}" for name, value in self.exports.items()]
        return "; ".join([*parts, f"cd {shlex.quote(os.getcwd())}", f"exec {shlex.join(words)}"])


_NUMBER = "NUMBER-OF-THE-MACHINE"  # pdsh puts it in


def exported(environment: Mapping[str, str]) -> dict[str, str]:
    """What other machines get of this environment, and what the environment files say."""
    found = {name: value for name, value in environment.items() if name.startswith(tuple(EXPORT_ENVS))}
    for folder in DEEPSPEED_ENVIRONMENT_PATHS:
        file = Path(folder, DEEPSPEED_ENVIRONMENT_NAME)
        if file.is_file():
            found |= _variables(file)
    return found


def _variables(file: Path) -> dict[str, str]:
    lines = (line.strip() for line in file.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}
