"""ATRank's raw features of an event (arXiv 1711.06632), brought to one width by a projection of each group's own."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.layers.event_inputs import BUCKETS, time_buckets
from hmar.layers.grouped import BehaviorGroups, grouped_linear
from hmar.layers.permute import permute


class GroupInputs(nn.Module):
    """W_g [ e; A[b]; D[bucket] ] + b_g, [T, D], for events of behavior b in group g; A and D are learned.

    W_g acts on its three parts separately. What becomes of the last two, b_g included, has few values, one for each
    behavior and bucket: they are made once per batch and looked up.
    """

    group: Tensor

    def __init__(self, d: int, group: Sequence[int], *, behavior: bool = True, time: bool = True) -> None:
        """
        Args:
            group: of each behavior, 0..G-1. behavior, time: whether the behavior and the time bucket are inputs.
        """
        super().__init__()
        self.register_buffer("group", torch.tensor(group), persistent=False)
        groups = max(group) + 1
        bound = d**-0.5
        self.item = nn.Parameter(torch.empty(groups, d, d).uniform_(-bound, bound))
        self.behavior = _Context(len(group), groups, d) if behavior else None
        self.time = _Context(BUCKETS, groups, d) if time else None
        self.bias = nn.Parameter(torch.zeros(groups, d))

    def plan(self, histories: Histories) -> None:
        """Look ahead at what :meth:`forward` sorts."""
        BehaviorGroups.of(histories, len(self.group))

    def forward(self, e_TD: Tensor, histories: Histories) -> Tensor:
        """[T, D] from the items' vectors e [T, D]."""
        context_RGD = self.bias[self.group][:, None]
        if self.behavior is not None:
            own_RRD = self.behavior()[self.group]
            context_RGD = context_RGD + own_RRD.diagonal().T[:, None]
        if self.time is not None:
            context_RGD = context_RGD + self.time()[self.group]
        buckets = context_RGD.shape[1]
        place_T = histories.behavior * buckets
        if buckets > 1:
            place_T = place_T + time_buckets(histories)
        return self._projected(e_TD, histories) + nn.functional.embedding(place_T, context_RGD.flatten(0, 1))

    def _projected(self, e_TD: Tensor, histories: Histories) -> Tensor:
        if len(self.item) == 1:
            return e_TD @ self.item[0].T
        groups = BehaviorGroups.of(histories, len(self.group))
        weight = self.item[self.group]
        sorted_TD = permute(e_TD, groups.order, groups.place)
        none = weight.new_zeros(weight.shape[:2])
        return permute(grouped_linear(sorted_TD, weight, none, groups.sizes), groups.place, groups.order)


class _Context(nn.Module):
    """W_g a for every learned vector a of a few and every group g, [G, few, D]."""

    def __init__(self, few: int, groups: int, d: int) -> None:
        super().__init__()
        bound = d**-0.5
        self.vectors = nn.Parameter(0.1 * torch.randn(few, d))
        self.weight = nn.Parameter(torch.empty(groups, d, d).uniform_(-bound, bound))

    def forward(self) -> Tensor:
        return self.vectors @ self.weight.transpose(1, 2)
