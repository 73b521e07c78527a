"""What feature fields say together: products of pairs (FM) and a net on all of them (deep)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class FieldInteraction(nn.Module):
    """[ sum over pairs of fields of their elementwise product ; net on all fields end to end ], [..., width].

    The first is the second-order part of a factorization machine before it is summed up, as half of (sum of fields)^2 -
    sum of fields^2; the second has ReLU layers.
    """

    def __init__(self, d: int, fields: int, hidden: Sequence[int], *, fm: bool = True, deep: bool = True) -> None:
        """
        Args:
            d: width of every field. fields: how many. hidden: widths of the net's layers.
            fm, deep: which of the two there are; one at least.
        """
        super().__init__()
        self.fm = fm
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([fields * d, *hidden]):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.net = nn.Sequential(*layers) if deep else None
        self.width = d * fm + hidden[-1] * deep

    def forward(self, fields: Sequence[Tensor]) -> Tensor:
        """For fields [B, N, D]; those of size 1 in B or N are the same for all rows, or all candidates."""
        together = []
        if self.fm:
            together.append((_sum(fields).square() - _sum([field.square() for field in fields])) / 2)
        if self.net is not None:
            together.append(self.net(torch.cat(torch.broadcast_tensors(*fields), dim=-1)))
        return torch.cat(together, dim=-1)


def _sum(fields: Sequence[Tensor]) -> Tensor:
    total = fields[0]
    for field in fields[1:]:
        total = total + field
    return total
