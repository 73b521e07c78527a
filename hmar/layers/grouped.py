"""Own weights per behavior, one pass for all: tokens grouped by behavior.

Sorting a batch's tokens by (behavior, row, position) makes every behavior a contiguous slice, which one matrix product
handles, and every (row, behavior) a contiguous segment, so that one attention call serves all behaviors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from hmar.data.histories import Histories
from hmar.layers.segments import Segments


@dataclass(frozen=True)
class BehaviorGroups:
    """The tokens of a batch sorted by behavior, planned once for any number of layers.

    Attributes:
        order: int64 [T], the token at each sorted place. place: int64 [T], its inverse.
        sizes: tokens per behavior. behavior: int64 [T], of each sorted token. segments: the (behavior, row) runs of the
        sorted tokens.
    """

    order: Tensor
    place: Tensor
    sizes: tuple[int, ...]
    behavior: Tensor
    segments: Segments

    @classmethod
    def of(cls, histories: Histories, behaviors: int) -> "BehaviorGroups":
        groups: BehaviorGroups = histories.planned(f"by {behaviors} behaviors", lambda: cls._of(histories, behaviors))
        return groups

    @classmethod
    def _of(cls, histories: Histories, behaviors: int) -> "BehaviorGroups":
        run = histories.behavior * len(histories) + histories.row
        order = torch.argsort(run, stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        lengths = torch.bincount(run, minlength=behaviors * len(histories))
        sizes = tuple(lengths.view(behaviors, -1).sum(1).tolist())
        return cls(order, place, sizes, histories.behavior[order], Segments.of(lengths))


class GroupedLinear(nn.Module):
    """y_t = W_{g(t)} x_t + b_{g(t)} for tokens sorted by group; [T, out] from [T, in]."""

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(groups, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(groups, outputs).uniform_(-bound, bound))

    def forward(self, x_TD: Tensor, sizes: Sequence[int]) -> Tensor:
        """``sizes``: tokens per group, in order."""
        return grouped_linear(x_TD, self.weight, self.bias, sizes)


def grouped_linear(x_TD: Tensor, weight: Tensor, bias: Tensor, sizes: Sequence[int]) -> Tensor:
    """:class:`GroupedLinear` with weights from elsewhere, [G, out, in] and [G, out]."""
    if x_TD.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        y: Tensor = _OnCPU.apply(x_TD, weight, bias, sizes)
        return y
    parts = x_TD.split(list(sizes))
    return torch.cat([linear(x, w, b) for x, w, b in zip(parts, weight, bias, strict=True)])


class _OnCPU(torch.autograd.Function):
    """Every group's product written into its place: put together afterwards, all would be copied once more."""

    @staticmethod
    def forward(ctx: Any, x_TD: Tensor, weight: Tensor, bias: Tensor, sizes: Sequence[int]) -> Tensor:
        ctx.save_for_backward(x_TD, weight)
        ctx.sizes = sizes
        y = x_TD.new_empty(len(x_TD), weight.shape[1])
        for group, part in enumerate(_slices(sizes)):
            torch.addmm(bias[group], x_TD[part], weight[group].T, out=y[part])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x_TD, weight = ctx.saved_tensors
        outer = gradients[0]
        of_x, of_weight = torch.empty_like(x_TD), torch.empty_like(weight)
        of_bias = weight.new_empty(weight.shape[:2])
        for group, part in enumerate(_slices(ctx.sizes)):
            torch.mm(outer[part], weight[group], out=of_x[part])
            torch.mm(outer[part].T, x_TD[part], out=of_weight[group])
            torch.sum(outer[part], 0, out=of_bias[group])
        return of_x, of_weight, of_bias, None


def _slices(sizes: Sequence[int]) -> list[slice]:
    ends = [0, *accumulate(sizes)]
    return [slice(start, stop) for start, stop in pairwise(ends)]
