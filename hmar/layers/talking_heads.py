"""Causal self-attention whose heads speak to each other (Shazeer et al. 2020, arXiv 2003.02436).

With J_h = Q_h K_h^T / sqrt(d_h) and learned matrices P (logits) and R (weights) of heads by heads:

    W_g = softmax( sum_h P_gh J_h )  over the events that are seen,  out_g = ( sum_h R_gh W_h ) V_g
"""

import torch
from torch import Tensor, nn

from hmar.layers.attention_weights import Attention, heads
from hmar.layers.segments import Buckets, Segments


class TalkingHeads(nn.Module):
    """Like :class:`hmar.layers.self_attention.SelfAttention`, which it equals while P and R are unit matrices: that is
    where they start. Its weights are needed themselves, so it takes memory for every pair of events of a segment."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d)
        self.logits = nn.Parameter(torch.eye(heads))
        self.weights = nn.Parameter(torch.eye(heads))

    def forward(self, x_TD: Tensor, segments: Segments) -> Tensor:
        """[T, D] from [T, D]."""
        buckets: Buckets = segments.form("bucketed")
        outputs = [x_TD.new_zeros(0, x_TD.shape[1])]
        for (_, length), grid in zip(buckets.shapes, self.qkv(x_TD)[buckets.token].split(buckets.cells), strict=True):
            q, k, v = self._heads(grid, length)
            out = self._weights(q, k).to(v.dtype) @ v
            outputs.append(out.transpose(1, 2).reshape(len(grid), -1))
        return torch.cat(outputs[1:] or outputs)[buckets.cell]

    def attention_weights(self, x_TD: Tensor, segments: Segments) -> Attention:
        """Of one history: L is T. The weights as they are multiplied with the values; a row need not sum to 1."""
        q, k, _ = self._heads(self.qkv(x_TD), len(x_TD))
        return Attention(self._weights(q, k)[0], heads(self.heads))

    def _heads(self, grid: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, [n, H, length, K], of cells [n length, 3 D]."""
        q, k, v = grid.view(-1, length, 3, self.heads, grid.shape[1] // (3 * self.heads)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def _weights(self, q: Tensor, k: Tensor) -> Tensor:
        """[n, H, length, length]."""
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        unseen = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).triu(1)
        spoken = _mixed(self.logits, logits).masked_fill(unseen, -torch.inf)
        return _mixed(self.weights, spoken.softmax(-1))


def _mixed(matrix_HH: Tensor, maps: Tensor) -> Tensor:
    """sum_h matrix_gh maps_h, for maps [n, H, length, length]."""
    return (matrix_HH.to(maps.dtype) @ maps.flatten(2)).view(maps.shape)
