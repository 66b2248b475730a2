"""What to do without a pipeline: the end of each refusal."""

from __future__ import annotations

INSTEAD = "write the model as one module and offload what does not fit (zero_optimization stage 3)"
