"""Multi-head causal self-attention with its projections."""

from torch import Tensor, nn

from hmar.layers.attention import Segments, causal_attention


class SelfAttention(nn.Module):
    """concat_h softmax(Q_h K_h^T / sqrt(d_h)) V_h with Q, K, V linear in x; no output projection, no residual.

    (With a feed-forward net next in line an output projection adds nothing that the net could not learn.)
    """

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d)

    def forward(self, x_TD: Tensor, segments: Segments) -> Tensor:
        """[T, D] from [T, D]."""
        qkv_T3HK = self.qkv(x_TD).view(len(x_TD), 3, self.heads, x_TD.shape[1] // self.heads)
        return causal_attention(qkv_T3HK, segments).reshape(x_TD.shape)
