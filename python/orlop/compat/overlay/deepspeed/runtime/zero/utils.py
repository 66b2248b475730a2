"""What the stages of ZeRO share."""

from __future__ import annotations


class ZeRORuntimeException(Exception):
    """ZeRO cannot be used so."""
