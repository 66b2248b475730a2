"""What the engine says of a step and of itself."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, fields
from typing import TypeVar

T = TypeVar("T", bound="_Record")

PROFILE_FILE = "deepspeed_profile.json"
"""What DEEPSPEED_PROFILE=1 writes, into the current directory."""


@dataclass(frozen=True)
class _Record:
    @classmethod
    def of(cls: type[T], struct: ctypes.Structure) -> T:
        return cls(**{field.name: getattr(struct, field.name) for field in fields(cls)})


@dataclass(frozen=True)
class StepReport(_Record):
    """One step. Times in seconds, sizes in bytes."""

    skipped: int
    """1: a gradient was not finite; parameters and states are untouched, bit for bit."""
    step: int
    """Updates applied so far."""
    skipped_steps: int
    grad_norm: float
    """L2 norm over all gradients before clipping; not finite when skipped."""
    clip_factor: float
    """What gradients were multiplied with."""
    seconds: float
    """From the start of the update until the parameters were final."""
    exposed_io_seconds: float
    """Of these, spent waiting for the store."""
    hidden_io_seconds: float
    """Since the previous report, the drives were busy while something else ran."""
    adam_seconds: float
    nvme_read_bytes: int
    """Since the previous report."""
    nvme_write_bytes: int
    loss_scale: float
    """What gradients were divided by."""
    unit_wait_seconds: float
    """Since the previous report, modules waited for parameters of the store."""
    unit_copy_seconds: float
    """Likewise, these were copied to where the modules compute."""

    @property
    def waited_io_seconds(self) -> float:
        """I/O that something waited for, since the previous report: an update, or modules."""
        return self.exposed_io_seconds + self.unit_wait_seconds

    @property
    def busy_seconds(self) -> float:
        """I/O that something waited for, or nothing."""
        return self.waited_io_seconds + self.hidden_io_seconds


@dataclass(frozen=True)
class Stats(_Record):
    """The engine since it was opened. Times in seconds, sizes in bytes."""

    params: int
    """Trainable elements."""
    steps: int
    skipped_steps: int
    host_budget_bytes: int
    """0: no limit was set."""
    host_bytes: int
    """Of the host, everything included: what the engine allocates, and parameters of the store in memory."""
    model_bytes: int
    """Of these: parameters and gradients, which must be there."""
    staging_bytes: int
    """Of these: the buffers that states pass through."""
    nvme_bytes: int
    """Size of the store."""
    nvme_read_bytes: int
    nvme_write_bytes: int
    exposed_io_seconds: float
    hidden_io_seconds: float
    adam_seconds: float
    step_seconds: float
    live_limit_bytes: int
    """Of host_bytes (on a GPU: of the device's): planned for parameters of the store that are in memory."""
    live_bytes: int
    """Of such parameters now: of modules at work, or kept for the next use."""
    unit_hits: int
    """Uses of units (parameters that are fetched together) that were in memory."""
    unit_fetches: int
    """Uses of units that were read from the store."""
    unexpected_uses: int
    """Uses that came in another order than the pass before had shown."""
    loss_scale_good_steps: int
    """Of a dynamic loss scale: updates since the last overflow, or the start."""
    loss_scale_overflows_left: int
    """Until one halves it, that one included."""
    unit_wait_seconds: float
    """Modules waited for parameters of the store."""
    unit_copy_seconds: float
    """These were copied to where the modules compute."""
    activation_bytes: int
    """Of host_bytes: set aside for activations ("orlop.memory.activations")."""
