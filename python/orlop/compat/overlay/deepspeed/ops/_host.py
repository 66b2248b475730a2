"""What the optimizers have in common that programs find in DeepSpeed's."""

from __future__ import annotations

from orlop.optim import HostOptimizer
from torch import Tensor


class OnHost(HostOptimizer):
    """An optimizer for tensors in host memory only."""

    def check_parameter(self, parameter: Tensor) -> None:
        """Raises AssertionError for a tensor on a device."""
        assert parameter.device.type == "cpu", (
            f"{type(self).__name__} param is on {parameter.device} and must be 'cpu': give the optimizer to "
            "deepspeed.initialize, or use torch's own"
        )
        super().check_parameter(parameter)


def refuse_amsgrad(name: str, amsgrad: bool) -> None:
    """Raises RuntimeError where it is asked for."""
    if amsgrad:
        raise RuntimeError(
            f"{name} does not support the AMSGrad variant: write amsgrad=False, or use torch.optim.AdamW"
        )
