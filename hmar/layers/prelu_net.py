"""The net at the end of the rankers."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def prelu_net(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers of these widths, the inputs' first, with PReLU after each, and a linear unit without a bias at the
    end: [..., widths[0]] to [..., 1]."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.PReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1, bias=False))
