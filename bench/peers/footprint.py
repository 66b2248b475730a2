"""What a system takes in one case: for choosing a size and who runs side by side. Measured once, rounded up."""

from __future__ import annotations

from .setting import Case
from .systems import DEEPSPEED, MAPPED, ORLOP, TORCH

# Of a process that has imported torch and an engine.
BASE_BYTES = 450e6
_RING_BYTES = 250e6  # Orlop's, with states on NVMe
# Peak bytes per parameter beyond these: by system, optimizer device and precision.
_MEMORY = {
    (TORCH, "none"): {"bf16": 18.6, "fp32": 16.0},
    (MAPPED, "nvme"): {"bf16": 6.6, "fp32": 8.0},
    (ORLOP, "none"): {"bf16": 17.1, "fp32": 19.5},
    (ORLOP, "cpu"): {"bf16": 17.1, "fp32": 19.5},
    (ORLOP, "nvme"): {"bf16": 4.2, "fp32": 9.8},
    ("deepspeed", "none"): {"bf16": 27.6, "fp32": 36.5},
    ("deepspeed", "cpu"): {"bf16": 29.6, "fp32": 40.6},
    ("deepspeed", "nvme"): {"bf16": 34.0, "fp32": 40.6},
}
# Bytes per parameter on the drive.
_DRIVE = {MAPPED: {"bf16": 12, "fp32": 8}, ORLOP: {"bf16": 11, "fp32": 9}, "deepspeed": {"bf16": 17, "fp32": 17}}
_PARAMETER = {"bf16": 2, "fp32": 4}
_PARAMETER_BUFFERS_BYTES = 1e9  # DeepSpeed's, elements of parameters on NVMe


def _kind(system: str) -> str:
    return "deepspeed" if system in DEEPSPEED else system


def memory_bytes(system: str, case: Case, params: int) -> float:
    fixed = BASE_BYTES + (_RING_BYTES if system == ORLOP and case.optimizer == "nvme" else 0)
    if system in DEEPSPEED and case.parameters == "nvme":
        fixed += _PARAMETER_BUFFERS_BYTES * _PARAMETER[case.precision] / 2
    return fixed + _MEMORY[_kind(system), case.optimizer][case.precision] * params


def drive_bytes(system: str, case: Case, params: int) -> float:
    states = _DRIVE[_kind(system)][case.precision] if case.optimizer == "nvme" else 0
    parameters = _PARAMETER[case.precision] if case.parameters == "nvme" else 0
    return (states + parameters) * params
