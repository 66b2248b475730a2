"""The overlay in a process that runs already: a notebook, an interactive session."""

from __future__ import annotations

import os
import sys

from ..errors import OutOfOrderError
from ._overlay import OVERLAY, default_version, folders, joined, labelled

_DECIDED_AT_IMPORT = ("deepspeed", "transformers", "accelerate")


def activate(version: str | None = None) -> None:
    """Lets this process, and those it starts, find Orlop under DeepSpeed's names.

    To be called before deepspeed, transformers or accelerate is imported: they decide at import whether there is a
    DeepSpeed, and of which version. A second call with the same version does nothing.

    version: of DeepSpeed, to be claimed, such as "0.16.8"; by default that whose interface the overlay has.

    Raises OutOfOrderError when it is too late, InvalidArgumentError for what is no version.
    """
    if _is_active(version):
        return
    late = [name for name in _DECIDED_AT_IMPORT if name in sys.modules]
    if late:
        raise OutOfOrderError(
            f"activate: {late[0]} has been imported and has looked for DeepSpeed already: call "
            "orlop.compat.activate() first, in a fresh interpreter"
        )
    added = folders(version)
    sys.path[:] = [*map(str, added), *(entry for entry in sys.path if entry not in map(str, added))]
    os.environ["PYTHONPATH"] = joined(added, os.environ.get("PYTHONPATH"))


def _is_active(version: str | None) -> bool:
    """Whether a program that asks now gets this version from the overlay."""
    import importlib.metadata

    if str(OVERLAY) not in sys.path:
        return False
    wanted = default_version() if version is None else labelled(version)
    return importlib.metadata.version("deepspeed") == wanted
