"""Multi-head causal self-attention with its projections."""

from torch import Tensor, nn

from hmar.layers.attention import causal_attention
from hmar.layers.attention_weights import Attention, causal_weights, heads
from hmar.layers.segments import Segments


class SelfAttention(nn.Module):
    """concat_h softmax(Q_h K_h^T / sqrt(d_h)) V_h with Q, K, V linear in x; no output projection, no residual.

    (With a feed-forward net next in line an output projection adds nothing that the net could not learn.) In training,
    attention weights are dropped with probability ``dropout``.
    """

    def __init__(self, d: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(d, 3 * d)

    def forward(self, x_TD: Tensor, segments: Segments) -> Tensor:
        """[T, D] from [T, D]."""
        dropped = self.dropout if self.training else 0.0
        return causal_attention(self._projected(x_TD), segments, dropped).reshape(x_TD.shape)

    def attention_weights(self, x_TD: Tensor, segments: Segments) -> Attention:
        """Of one history: L is T."""
        return Attention(causal_weights(self._projected(x_TD), segments.lengths), heads(self.heads))

    def _projected(self, x_TD: Tensor) -> Tensor:
        qkv: Tensor = self.qkv(x_TD)
        return qkv.view(len(x_TD), 3, self.heads, x_TD.shape[1] // self.heads)
