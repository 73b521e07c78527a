"""Dropout at the price of its arithmetic."""

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout


class Dropout(nn.Module):
    """Zeroes each element with probability p while training and divides the rest by 1 - p.

    On a CPU, torch draws one Bernoulli number per element, one after the other, which costs more than the layers
    around it. Here one random 64-bit word decides four elements. p is rounded to a multiple of 1 / 65,536 and the
    rest is divided by exactly what was kept, so the mean is kept exactly.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        kept = 65_536 - round(self.p * 65_536)
        if not self.training or kept == 65_536:
            return x
        if x.device.type != "cpu":
            return dropout(x, self.p, training=True)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        draws = words.view(torch.int16)[: x.numel()].view(x.shape)
        # Compared straight into the number format of x: by way of bool it takes eight times as long.
        return x * torch.lt(draws, kept - 32_768, out=torch.empty_like(x)).mul_(65_536 / kept)
