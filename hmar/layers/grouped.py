"""Own weights per behavior, one pass for all: tokens grouped by behavior.

Sorting a batch's tokens by (behavior, row, position) makes every behavior a contiguous slice, which one matrix product
handles, and every (row, behavior) a contiguous segment, so that one attention call serves all behaviors.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from hmar.data.histories import Histories
from hmar.layers.attention import Segments


@dataclass(frozen=True)
class BehaviorGroups:
    """The tokens of a batch sorted by behavior, planned once for any number of layers.

    Attributes:
        order: int64 [T], the token at each sorted place. place: int64 [T], its inverse.
        sizes: tokens per behavior. segments: the (behavior, row) runs of the sorted tokens.
    """

    order: Tensor
    place: Tensor
    sizes: list[int]
    segments: Segments

    @classmethod
    def of(cls, histories: Histories, behaviors: int) -> "BehaviorGroups":
        run = histories.behavior * len(histories) + histories.row
        order = torch.argsort(run, stable=True)
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order), device=order.device)
        lengths = torch.bincount(run, minlength=behaviors * len(histories))
        sizes = lengths.view(behaviors, -1).sum(1).tolist()
        return cls(order, place, sizes, Segments.of(lengths))


class GroupedLinear(nn.Module):
    """y_t = W_{g(t)} x_t + b_{g(t)} for tokens sorted by group; [T, out] from [T, in]."""

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(groups, outputs, inputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(groups, outputs).uniform_(-bound, bound))

    def forward(self, x_TD: Tensor, sizes: list[int]) -> Tensor:
        """``sizes``: tokens per group, in order."""
        parts = x_TD.split(sizes)
        return torch.cat([linear(x, w, b) for x, w, b in zip(parts, self.weight, self.bias, strict=True)])
