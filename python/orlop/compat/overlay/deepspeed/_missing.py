"""Names of DeepSpeed's that exist so that programs can import them, and say what they are when they are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def missing(name: str, instead: str) -> type:
    """A class for a name that is not provided: `isinstance` with it works, making or calling one raises.

    name: as programs write it, "deepspeed.moe.layer.MoE"; instead: what to do, the end of the sentence.
    """

    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise NotImplementedError(f"{name} is not provided by Orlop: {instead}")

    return type(name.rpartition(".")[2], (), {"__new__": refuse, "__doc__": f"Not provided: {instead}."})


def refuse_unknown(module: str) -> Callable[[str], Any]:
    """A module's `__getattr__`: other names are an AttributeError that says whose package this is."""

    def get(name: str) -> Any:
        raise AttributeError(
            f"{module}.{name} is not provided by Orlop, whose overlay this package is: see docs/migrating.md"
        )

    return get
