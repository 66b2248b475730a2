"""Names of what starts processes on several machines."""

from __future__ import annotations

PDSH_LAUNCHER = "pdsh"
SSH_LAUNCHER = "ssh"
PDSH_MAX_FAN_OUT = 1024
OPENMPI_LAUNCHER = "openmpi"
MPICH_LAUNCHER = "mpich"
IMPI_LAUNCHER = "impi"
SLURM_LAUNCHER = "slurm"
MVAPICH_LAUNCHER = "mvapich"
