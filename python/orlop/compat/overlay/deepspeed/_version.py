"""The version of DeepSpeed whose interface this is: what the overlay's metadata says, with "+orlop" at its end."""

from __future__ import annotations

import importlib.metadata

__version__ = importlib.metadata.version("deepspeed")
__version_major__, __version_minor__, __version_patch__ = (int(part) for part in __version__.split("+")[0].split("."))
__git_hash__ = None
__git_branch__ = None
