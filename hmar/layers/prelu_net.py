"""The net at the end of the rankers, and what it is given."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def prelu_net(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of these widths, the inputs' first, with PReLU after each, and a linear unit without a bias at the
    end: [..., widths[0]] to [..., 1]."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.PReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1, bias=False))


def logits_of_pairs(net: nn.Module, u: Tensor, e: Tensor) -> Tensor:
    """net [u; e; u * e], [B, N].

    Args:
        net: [..., 3 D] to [..., 1].
        u: what stands for a history, one vector for all its candidates, [B, 1, D], or one for each, [B, N, D].
        e: candidates' vectors, [B, N, D], or [1, N, D] where all histories have the same.
    """
    u, e = torch.broadcast_tensors(u, e)
    logits: Tensor = net(torch.cat([u, e, u * e], dim=-1))[..., 0]
    return logits
