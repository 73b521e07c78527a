"""ATRank's attention in latent semantic spaces (arXiv 1711.06632): each space is a ReLU projection of its own, and has
attention weights of its own."""

from typing import Literal

import torch
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.layers.attention_weights import Attention
from hmar.layers.dropout import Dropout
from hmar.layers.grid import Grid
from hmar.layers.segments import Segments
from hmar.layers.whole_attention import whole_attention

Score = Literal["bilinear", "dot"]
"""How two vectors of a space are compared: x M y, M learned for each space, or <x, y> / sqrt(d / K)."""


class SpaceAttention(nn.Module):
    """Self-attention in K spaces over whole histories, and the position-wise net after it:

        bilinear:  S = ReLU( W_S u ),  Q_k = S_k M_k,  K_k = S_k,  V = ReLU( W_V S )
        dot:       Q = ReLU( W_Q u ) / sqrt(d/K),  K = ReLU( W_K u ),  V = ReLU( W_V u )
        C_k = softmax( Q_k K_k^T ) V_k
        x = LN( u + Drop( [C_1; ...; C_K] ) )
        y = LN( x + Drop( W_2 ReLU( W_1 x ) ) ),  d -> d/4 -> d,

    every W with a bias, index k for the k-th of K equal parts.
    """

    def __init__(self, d: int, spaces: int, score: Score, dropout: float) -> None:
        """
        Args:
            d: a multiple of ``spaces``.
        """
        super().__init__()
        self.spaces, self.score = spaces, score
        self.width = d // spaces
        self.projection = nn.Linear(d, d if score == "bilinear" else 3 * d)
        if score == "bilinear":
            self.compare = Comparison(spaces, self.width)
            self.values = nn.Linear(d, d)
        self.dropout = Dropout(dropout)
        self.attention_norm = nn.LayerNorm(d)
        self.inner = nn.Linear(d, max(d // 4, 1))
        self.outer = nn.Linear(max(d // 4, 1), d)
        self.feed_forward_norm = nn.LayerNorm(d)

    def queries_keys_values(self, u_TD: Tensor) -> Tensor:
        """[T, 3, K, d/K]."""
        s_TD = self.projection(u_TD).relu()
        if self.score == "dot":
            q, k, v = s_TD.unflatten(-1, (3, self.spaces, self.width)).unbind(1)
            return torch.stack([q * self.width**-0.5, k, v], dim=1)
        spaces = (self.spaces, self.width)
        k, v = s_TD.unflatten(-1, spaces), self.values(s_TD).relu().unflatten(-1, spaces)
        return torch.stack([self.compare(k), k, v], dim=1)

    def forward(self, u_TD: Tensor, histories: Histories) -> Tensor:
        """[T, D] from [T, D]."""
        c_TKE = whole_attention(self.queries_keys_values(u_TD), Segments.of_rows(histories), scale=1.0)
        x_TD = self.attention_norm(u_TD + self.dropout(c_TKE.reshape(u_TD.shape)))
        y_TD: Tensor = self.feed_forward_norm(x_TD + self.dropout(self.outer(self.inner(x_TD).relu())))
        return y_TD

    def attention_weights(self, u_TD: Tensor, histories: Histories) -> Attention:
        """Of one history."""
        q_TKE, k_TKE, _ = self.queries_keys_values(u_TD).unbind(1)
        weights_KTT = torch.einsum("tke,ske->kts", q_TKE, k_TKE).softmax(-1)
        return Attention(weights_KTT, spaces(self.spaces), read="all")


class CandidateAttention(nn.Module):
    """Attention with candidates' queries h_j over an encoded history y in K spaces:

        K = ReLU( W_K y ),  V = W_V y
        u_j = [ softmax( score(h_j1, K_1) ) V_1; ...; softmax( score(h_jK, K_K) ) V_K ],

    with the scores of :class:`SpaceAttention`.
    """

    def __init__(self, d: int, spaces: int, score: Score) -> None:
        super().__init__()
        self.spaces = spaces
        self.width = d // spaces
        self.key = nn.Linear(d, d)
        self.value = nn.Linear(d, d)
        self.compare = Comparison(spaces, self.width) if score == "bilinear" else None

    def keys(self, y_TD: Tensor, histories: Histories) -> tuple[Tensor, Tensor]:
        """Keys [B, K, d/K, L], scaled or multiplied by M^T, and values [B, K, L, d/K], to be made once for all
        candidates."""
        shape = (len(y_TD), self.spaces, self.width)
        k_TKE, v_TKE = self.key(y_TD).relu().view(shape), self.value(y_TD).view(shape)
        k_TKE = k_TKE * self.width**-0.5 if self.compare is None else self.compare(k_TKE)
        grid = Grid.of(histories)
        return grid.spread(k_TKE).permute(0, 2, 3, 1), grid.spread(v_TKE).transpose(1, 2)

    def forward(self, keys: Tensor, values: Tensor, h_BND: Tensor, histories: Histories) -> Tensor:
        """u, [B, N, D], for queries [B, N, D]; of a row without a history finite numbers."""
        u_BKNE = self._weights(keys, h_BND, histories) @ values
        return u_BKNE.transpose(1, 2).flatten(2)

    def attention_weights(self, keys: Tensor, values: Tensor, h_BND: Tensor, histories: Histories) -> Attention:
        """Of one history."""
        return Attention(self._weights(keys, h_BND, histories)[0], spaces(self.spaces), "candidates")

    def _weights(self, keys: Tensor, h_BND: Tensor, histories: Histories) -> Tensor:
        """[B, K, N, L]."""
        q_BKNE = h_BND.unflatten(-1, (self.spaces, self.width)).transpose(1, 2)
        scores_BKNL = q_BKNE @ keys
        real_BL = Grid.of(histories).real
        scores_BKNL = scores_BKNL.masked_fill(~real_BL[:, None, None], torch.finfo(scores_BKNL.dtype).min)
        weights_BKNL: Tensor = scores_BKNL.softmax(-1)
        return weights_BKNL


class Comparison(nn.Module):
    """x_k M_k for each space k: one side of a bilinear score; [..., K, E] from [..., K, E]."""

    def __init__(self, spaces: int, width: int) -> None:
        super().__init__()
        bound = width**-0.5
        self.weight = nn.Parameter(torch.empty(spaces, width, width).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("...ke,kef->...kf", x, self.weight)


def spaces(count: int) -> tuple[str, ...]:
    """space 1, space 2, ..."""
    return tuple(f"space {number + 1}" for number in range(count))
