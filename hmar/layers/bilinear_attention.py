"""Attention weights by a bilinear form, with the candidate as the query (DIEN, equation 12)."""

import torch
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.layers.attention_weights import Attention
from hmar.layers.grid import Grid


class BilinearAttention(nn.Module):
    """a_t = softmax_t( h_t W q ) over a history."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.key = nn.Linear(d, d, bias=False)

    def keys(self, state_TD: Tensor) -> Tensor:
        """h W, [T, D], to be made once for all queries."""
        keys_TD: Tensor = self.key(state_TD)
        return keys_TD

    def forward(self, key_TD: Tensor, queries: Tensor, histories: Histories) -> Tensor:
        """[T, N], for queries [B, N, D], each of its row's history, or [1, N, D], each of all."""
        grid = Grid.of(histories)
        scores_BLN = grid.spread(key_TD) @ queries.to(key_TD.dtype).transpose(1, 2)
        lowest = torch.finfo(scores_BLN.dtype).min
        weights_BLN = scores_BLN.masked_fill(~grid.real[..., None], lowest).softmax(1)
        return weights_BLN.flatten(0, 1)[grid.cell]

    def attention_weights(self, key_TD: Tensor, queries: Tensor, histories: Histories) -> Attention:
        """Of one history."""
        return Attention(self.forward(key_TD, queries, histories).T[None], ("candidate",), "candidates")
