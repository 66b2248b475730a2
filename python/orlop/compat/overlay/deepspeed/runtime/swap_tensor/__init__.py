"""Moving tensors to files: Orlop's store does it, which has no interface of this name."""

from __future__ import annotations

MIN_SWAPPABLE_BYTES = 256 * 1024
"""The grain of a store: what smaller tensors would fill of a file is shared with their neighbours."""
