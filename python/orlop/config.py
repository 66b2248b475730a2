"""The configuration: whatever form it is given in, and what the library makes of it."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Union

from . import _native
from ._text import table
from .errors import ConfigError

ConfigSource = Union[Mapping[str, Any], str, "os.PathLike[str]"]


class Config:
    """A checked DeepSpeed configuration.

    `text` is its JSON as given; `values` the same with every default, alias and derived value filled in; `entries`
    say of each key where its value came from and why; `notes` are sentences about keys that have no effect here,
    `warnings` about names that are unknown.
    """

    def __init__(self, source: ConfigSource | None, world_size: int = 1) -> None:
        self.text = config_text(source)
        resolved = _native.resolve_config(self.text, world_size)
        self.values: dict[str, Any] = resolved["values"]
        self.entries: list[dict[str, Any]] = resolved["entries"]
        self.notes: list[str] = resolved["notes"]
        self.warnings: list[str] = resolved["warnings"]

    def get(self, path: str, default: Any = None) -> Any:
        """The value of a key named by its path, as in "zero_optimization.stage"."""
        value: Any = self.values
        for name in path.split("."):
            if not isinstance(value, dict) or value.get(name) is None:
                return default
            value = value[name]
        return value

    def table(self, with_defaults: bool = False) -> str:
        """Every value, where it came from and why, then what has no effect, as lines of text."""
        shown = [e for e in self.entries if with_defaults or (e["origin"] != "default" and e["value"] is not None)]
        rows = [(e["key"], json.dumps(e["value"]), e["origin"], e["why"]) for e in shown]
        lines = [table(rows, ("KEY", "VALUE", "FROM", "WHY"))]
        lines += [f"note: {note}" for note in self.notes] + [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)


def config_text(source: ConfigSource | None) -> str:
    """A configuration as JSON text.

    `source` is a dict, JSON text, the path of a file, or such text in base64; None stands for `{}`.
    Raises ConfigError when it is none of these.
    """
    if source is None:
        return "{}"
    if isinstance(source, Mapping):
        return _text_of_mapping(source)
    if not isinstance(source, (str, os.PathLike)):
        raise ConfigError(f"config: given as {type(source).__name__}: must be a dict, JSON text or the path of a file")
    text = os.fspath(source)
    if isinstance(source, str) and text.lstrip().startswith(("{", "//", "/*", "#")):
        return text
    if Path(text).is_file():
        return Path(text).read_text(encoding="utf-8")
    try:
        decoded = base64.urlsafe_b64decode(text).decode("utf-8")
        if decoded.lstrip().startswith("{"):
            return decoded
    except (binascii.Error, UnicodeDecodeError, ValueError):
        pass
    raise ConfigError(f"config: on {text[:200]!r}: there is no such file, and it is no JSON object either")


def _text_of_mapping(source: Mapping[str, Any]) -> str:
    try:
        return json.dumps(source, default=_plain)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config: {error}: values must be those of JSON") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if callable(getattr(value, "item", None)):  # a number of numpy's or torch's
        return value.item()
    if type(value).__module__ == "torch" and type(value).__name__ == "dtype":
        return str(value)
    raise TypeError(f"{type(value).__name__} {value!r} has no place in a configuration")
