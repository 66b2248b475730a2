"""The blocks offload_param and offload_optimizer."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from pydantic import Field

from ..config_utils import DeepSpeedConfigModel


class OffloadDeviceEnum(str, Enum):
    """Where something lives."""

    none = "none"
    cpu = "cpu"
    nvme = "nvme"


class DeepSpeedZeroOffloadParamConfig(DeepSpeedConfigModel):
    """Where parameters live between their uses."""

    device: OffloadDeviceEnum = OffloadDeviceEnum.none
    nvme_path: Path | None = None
    buffer_count: int = Field(5, ge=0)
    buffer_size: int = Field(100_000_000, ge=0)
    max_in_cpu: int = Field(1_000_000_000, ge=0)
    pin_memory: bool = True


class DeepSpeedZeroOffloadOptimizerConfig(DeepSpeedConfigModel):
    """Where the optimizer's states live."""

    device: OffloadDeviceEnum = OffloadDeviceEnum.none
    nvme_path: Path | None = None
    buffer_count: int = Field(4, ge=0)
    pin_memory: bool = True
    pipeline_read: bool = False
    pipeline_write: bool = False
    fast_init: bool = False
    ratio: float = Field(1.0, ge=0.0, le=1.0)
    super_offload: bool = False
    cpuadam_cores_perc: float = Field(0.8, ge=0.0, le=1.0)
    buffer_size: int | None = Field(None, ge=0)
    """Of old guides; DeepSpeed itself refuses it today."""

    @property
    def pipeline(self) -> bool:
        """Whether reading or writing is pipelined."""
        return self.pipeline_read or self.pipeline_write
