"""Attention with the candidate as the query: what of a history matters for this item (DIN, equation 3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.layers.attention_weights import Attention
from hmar.layers.grid import Grid


@dataclass(frozen=True)
class Keys:
    """Keys [T, D], and what the scorer's first layer makes of them whoever the query is, [T, H]."""

    key: Tensor
    inner: Tensor


class TargetAttention(nn.Module):
    """a(k, q) = w . PReLU( ... PReLU( W [k; q; k - q; k * q] + b ) ... ), weights over the history, sum of the keys.

    With W = [W1, W2, W3, W4] the first layer is (W1 + W3) k + (W2 - W3) q + W4 (k * q): only the last term is made for
    every pair of a key and a query, the others once each.
    """

    def __init__(self, d: int, hidden: Sequence[int], normalize: Literal["softmax", "sum"] = "softmax") -> None:
        """
        Args:
            hidden: widths of the scorer's layers, one at least.
            normalize: softmax over a history, of scores divided by sqrt(D), or the scores as they are.
        """
        super().__init__()
        self.normalize, self.scale = normalize, d**-0.5
        self.key = nn.Linear(d, hidden[0])
        self.query = nn.Linear(d, hidden[0], bias=False)
        self.product = nn.Linear(d, hidden[0], bias=False)
        self.inner = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(hidden))
        self.slopes = nn.ModuleList(nn.PReLU(width) for width in hidden)
        # Without a bias, which a softmax does not see.
        self.outer = nn.Linear(hidden[-1], 1, bias=False)

    def keys(self, key_TD: Tensor) -> Keys:
        """To be made once for all queries."""
        return Keys(key_TD, self.key(key_TD))

    def scores(self, keys: Keys, queries: Tensor, histories: Histories) -> Tensor:
        """a(k_t, q_n), [T, N], for queries [B, N, D], each of its row's history, or [1, N, D], each of all."""
        asked = self.query(queries).transpose(1, 2)
        if len(queries) != 1:
            asked = asked[histories.row]
        x_THN = self._products(keys.key, queries, histories)
        x_THN = self.slopes[0](x_THN.add_(keys.inner[:, :, None]).add_(asked))
        for layer, slope in zip(self.inner, list(self.slopes)[1:], strict=True):
            x_THN = slope(layer(x_THN.transpose(1, 2)).transpose(1, 2))
        scores_TN: Tensor = torch.matmul(self.outer.weight, x_THN)[:, 0]
        return scores_TN

    def forward(self, keys: Keys, queries: Tensor, histories: Histories) -> Tensor:
        """The sum of a row's keys by their weights for each query, [B, N, D]; zero where a history is empty."""
        weights_BLN = self._weights(keys, queries, histories)
        pooled: Tensor = weights_BLN.transpose(1, 2) @ Grid.of(histories).spread(keys.key).to(weights_BLN.dtype)
        return pooled

    def attention_weights(self, keys: Keys, queries: Tensor, histories: Histories) -> Attention:
        """Of one history."""
        return Attention(self._weights(keys, queries, histories).transpose(1, 2), ("candidate",), "candidates")

    def _weights(self, keys: Keys, queries: Tensor, histories: Histories) -> Tensor:
        grid = Grid.of(histories)
        scores_TN = self.scores(keys, queries, histories)
        if self.normalize == "sum":
            return grid.spread(scores_TN)
        lowest = torch.finfo(scores_TN.dtype).min
        return grid.spread(scores_TN * self.scale, lowest).softmax(1)

    def _products(self, key_TD: Tensor, queries: Tensor, histories: Histories) -> Tensor:
        """W4 (k_t * q_n), [T, H, N]: by the product of the two, or, for many queries, by W4 * k_t, which is smaller."""
        shared = len(queries) == 1
        if queries.shape[1] <= self.product.out_features:
            both_TND = key_TD[:, None] * (queries if shared else queries[histories.row])
            by_pair_TNH: Tensor = self.product(both_TND)
            return by_pair_TNH.transpose(1, 2)
        by_key_THD: Tensor = self.product.weight * key_TD[:, None]
        if shared:
            shared_THN: Tensor = (by_key_THD.flatten(0, 1) @ queries[0].T).view(*by_key_THD.shape[:2], queries.shape[1])
            return shared_THN
        products_THN: Tensor = torch.matmul(by_key_THD, queries.transpose(1, 2)[histories.row])
        return products_THN
