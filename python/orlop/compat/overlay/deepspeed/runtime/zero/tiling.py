"""A linear layer of many small ones, of which only those in use need be in memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["TiledLinear", "TiledLinearReturnBias"]


class TiledLinear(nn.Module):
    """`linears[o][i]` computes part o of the output from part i of the input; a bias is in the last i of each o.

    in_splits, out_splits: parts of either; sizes differ by one at most, the larger first.
    input_is_already_split: the input is a sequence of its parts. combine_out_splits: false gives the output's parts.
    linear_cls: what each tile is, called as nn.Linear is with **kwargs besides. init_linear: a layer to copy.

    Raises RuntimeError for fewer than one part, or more than features.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        in_splits: int = 1,
        out_splits: int = 1,
        input_is_already_split: bool = False,
        combine_out_splits: bool = True,
        linear_cls: Any = nn.Linear,
        init_linear: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.in_parts = _bounds("in_splits", in_splits, in_features)
        self.out_parts = _bounds("out_splits", out_splits, out_features)
        self.in_features, self.out_features, self.use_bias = in_features, out_features, bias
        self.in_splits, self.out_splits = in_splits, out_splits
        self.input_is_already_split, self.combine_out_splits = input_is_already_split, combine_out_splits
        inputs, outputs = _sizes(self.in_parts), _sizes(self.out_parts)
        self.linears = nn.ModuleList(
            nn.ModuleList(
                linear_cls(size, output, bias=bias and part == in_splits - 1, **kwargs)
                for part, size in enumerate(inputs)
            )
            for output in outputs
        )
        if init_linear is not None:
            self.copy_params_from(init_linear)

    def forward(self, input_: Any) -> Any:
        parts = self._parts_of(input_)
        outputs = [self._sum(row, parts) for row in self.linears]
        return self._combine(outputs) if self.combine_out_splits else outputs

    def copy_params_from(self, other: Any) -> None:
        """Takes weight and bias of a whole layer."""
        rows: Any = self.linears
        with torch.no_grad():
            for row, (first, end) in zip(rows, pairwise(self.out_parts), strict=True):
                for tile, (left, right) in zip(row, pairwise(self.in_parts), strict=True):
                    tile.weight.copy_(other.weight[first:end, left:right])
                if self.use_bias:
                    row[-1].bias.copy_(other.bias[first:end])

    def _parts_of(self, input_: Any) -> Any:
        if self.input_is_already_split:
            if len(input_) != self.in_splits:
                raise RuntimeError(f"TiledLinear: on the input: {len(input_)} parts are given, {self.in_splits} wanted")
            return input_
        return torch.split(input_, _sizes(self.in_parts), dim=-1) if self.in_splits > 1 else [input_]

    def _sum(self, row: Any, parts: Sequence[Tensor]) -> Any:
        outputs = [tile(part) for tile, part in zip(row, parts, strict=True)]
        return sum(outputs[1:], outputs[0])

    def _combine(self, outputs: list[Any]) -> Any:
        return torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]


class TiledLinearReturnBias(TiledLinear):
    """The same of layers that return (output, bias or None), as Megatron's do."""

    def _sum(self, row: Any, parts: Sequence[Tensor]) -> Any:
        outputs = [tile(part) for tile, part in zip(row, parts, strict=True)]
        return sum((output for output, _ in outputs[1:]), outputs[0][0]), outputs[-1][1]

    def _combine(self, outputs: list[Any]) -> Any:
        biases = [bias for _, bias in outputs]
        whole = None if biases[0] is None else super()._combine(biases)
        return super()._combine([output for output, _ in outputs]), whole


def _bounds(name: str, splits: int, features: int) -> list[int]:
    if not 1 <= splits <= features:
        raise RuntimeError(f"TiledLinear: on {name} ({splits}): must be in the range [1, {features}], the features")
    size, more = divmod(features, splits)
    return [part * size + min(part, more) for part in range(splits + 1)]


def _sizes(bounds: list[int]) -> list[int]:
    return [end - first for first, end in pairwise(bounds)]
