"""A model as it is without its engine, for generating between training steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from orlop.zero import GatheredParameters
from torch import nn


@contextlib.contextmanager
def unwrap_model_for_generation(model: Any) -> Iterator[nn.Module]:
    """Gives the module of an engine, with all its parameters in the model inside the block.

    The engine's own hooks stay: what they bring is there. Training goes on after the block as if it had not been.
    """
    with GatheredParameters(model.module.parameters()):
        yield model.module
