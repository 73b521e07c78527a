"""The block of the self-attention recommenders: attention among events, then a net on each of them."""

from typing import Literal

from torch import Tensor, nn

from hmar.layers.dropout import Dropout
from hmar.layers.feed_forward import FeedForward
from hmar.layers.segments import Segments

Norm = Literal["pre", "post"]


class Block(nn.Module):
    """pre: x = x + Drop( A(LN(x)) ), x = x + FF(LN(x)); post: x = LN( x + Drop(A(x)) ), x = LN( x + FF(x) )."""

    def __init__(self, attention: nn.Module, d: int, dropout: float, norm: Norm = "pre") -> None:
        """
        Args:
            attention: A, [T, D] and segments to [T, D].
        """
        super().__init__()
        self.pre = norm == "pre"
        self.attention = attention
        self.feed_forward = FeedForward(d, dropout)
        self.attention_norm = nn.LayerNorm(d)
        self.feed_forward_norm = nn.LayerNorm(d)
        self.dropout = Dropout(dropout)

    def forward(self, x_TD: Tensor, segments: Segments) -> Tensor:
        """[T, D] from [T, D]."""
        if self.pre:
            x_TD = x_TD + self.dropout(self.attention(self.attention_norm(x_TD), segments))
            x_TD = x_TD + self.feed_forward(self.feed_forward_norm(x_TD))
        else:
            x_TD = self.attention_norm(x_TD + self.dropout(self.attention(x_TD, segments)))
            x_TD = self.feed_forward_norm(x_TD + self.feed_forward(x_TD))
        return x_TD
