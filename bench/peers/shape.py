"""How large the model is; the model itself is in model.py, which needs torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

BYTES = 256  # the vocabulary


@dataclass(frozen=True)
class Shape:
    """A GPT's dimensions."""

    width: int
    layers: int
    heads: int
    length: int

    @property
    def block_params(self) -> int:
        """Parameters of one block: four matrices with biases, two norms."""
        return 12 * self.width**2 + 13 * self.width

    @property
    def params(self) -> int:
        """Parameters of the whole model."""
        return self.layers * self.block_params + self.width * (2 * BYTES + self.length + 2)

    def with_at_most(self, params: float) -> Shape:
        """The same with as few layers as it takes, but one."""
        layers = self.layers
        while layers > 1 and replace(self, layers=layers).params > params:
            layers -= 1
        return replace(self, layers=layers)


SMOKE = Shape(width=128, layers=2, heads=4, length=16)


def shape_of(params: float, length: int) -> Shape:
    """The shape nearest to a number of parameters, of usual proportions."""
    width = 1024 if params >= 1e8 else 512 if params >= 2e7 else 256
    one = Shape(width=width, layers=1, heads=width // 64, length=length)
    rest = params - (one.params - one.block_params)
    return replace(one, layers=max(1, round(rest / one.block_params)))
