"""Events as one vector per row: what a learned question, or what another vector of the row, picks of them."""

import torch
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.layers.grid import Grid


class AskedPooling(nn.Module):
    """sum_t softmax_t( <W p + b, x_t> / sqrt(d) ) x_t, [B, D]: of a row's events those that its vector p asks for.

    Where p is zero, because there was nothing to make it of, b asks. Without W b always does. An empty row gives zero.
    """

    def __init__(self, d: int, asked: bool) -> None:
        """
        Args:
            asked: whether there is a vector p.
        """
        super().__init__()
        self.weight = nn.Linear(d, d, bias=False) if asked else None
        self.own = nn.Parameter(torch.empty(d).normal_(std=0.1))
        self.scale = d**-0.5

    def forward(self, x_TD: Tensor, histories: Histories, p_BD: Tensor | None = None) -> Tensor:
        """Pooled events of ``histories``."""
        weights_BL = self.weights(x_TD, histories, p_BD)
        pooled: Tensor = (weights_BL[:, None] @ Grid.of(histories).spread(x_TD).to(weights_BL.dtype))[:, 0]
        return pooled

    def weights(self, x_TD: Tensor, histories: Histories, p_BD: Tensor | None = None) -> Tensor:
        """The weight of every event on the grid of the histories, [B, L]."""
        asks = self.own
        if self.weight is not None and p_BD is not None:
            asks = (self.own + self.weight(p_BD))[histories.row]
        scores_T = (x_TD * asks).sum(-1) * self.scale
        return Grid.of(histories).spread(scores_T, torch.finfo(scores_T.dtype).min).softmax(1)
