"""A configuration in any of its forms, as a dict."""

from __future__ import annotations

import base64
import binascii
import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .config_utils import dict_raise_error_on_duplicate_keys


def read_config(source: Any) -> dict[str, Any]:
    """The configuration of a dict, of a file of JSON or Hjson, or of such text in base64.

    Raises ValueError for anything else and for a key that is given twice.
    """
    if isinstance(source, Mapping):
        return copy.deepcopy(dict(source))
    if isinstance(source, (str, os.PathLike)) and Path(source).is_file():
        return _parse(Path(source).read_text(encoding="utf-8"))
    try:
        return _parse(base64.urlsafe_b64decode(source).decode("utf-8"))
    except (binascii.Error, UnicodeDecodeError, ValueError, TypeError):
        raise ValueError(
            "Expected a string path to an existing deepspeed config, or a dictionary or a valid base64. "
            f"Received: {source}"
        ) from None


def _parse(text: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(text, object_pairs_hook=dict_raise_error_on_duplicate_keys)
    except json.JSONDecodeError:
        found = dict(_hjson().loads(text, object_pairs_hook=dict_raise_error_on_duplicate_keys))
    return found


def _hjson() -> Any:
    try:
        import hjson  # type: ignore[import-untyped]
    except ImportError:
        raise ImportError(
            "deepspeed.runtime.config: on a file that is not plain JSON: it is read as Hjson, which is not installed: "
            "pip install hjson"
        ) from None
    return hjson
