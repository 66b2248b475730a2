"""Names of DeepSpeed's that exist so that programs can import them, and say what they are when they are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class MissingNameError(AttributeError, NotImplementedError):
    """A name that this package does not have: `hasattr` is False for it, and so is what it stands for."""


def missing(name: str, instead: str) -> type:
    """A class for a name that is not provided: `isinstance` with it works, making or calling one raises.

    name: as programs write it, "deepspeed.moe.layer.MoE"; instead: what to do, the end of the sentence.
    """

    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise NotImplementedError(f"{name} is not provided by Orlop: {instead}")

    return type(name.rpartition(".")[2], (), {"__new__": refuse, "__doc__": f"Not provided: {instead}."})


def refuse_unknown(module: str) -> Callable[[str], Any]:
    """A module's `__getattr__`: other names are an error that says whose package this is."""

    def get(name: str) -> Any:
        raise MissingNameError(
            f"{module}.{name} is not provided by Orlop, whose overlay this package is: see docs/migrating.md", name=name
        )

    return get
