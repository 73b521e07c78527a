"""Reordering packed tokens."""

from typing import Any

import torch
from torch import Tensor


def permute(x: Tensor, order: Tensor, place: Tensor) -> Tensor:
    """x[order] along the first dimension, for a permutation and its inverse.

    Knowing the inverse, the gradient is a gather too; that of plain indexing is a scatter that has to allow for
    repeated indices, and is several times slower.
    """
    permuted: Tensor = _Permute.apply(x, order, place)
    return permuted


class _Permute(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None]:
        (place,) = ctx.saved_tensors
        return outputs[0].index_select(0, place), None, None
