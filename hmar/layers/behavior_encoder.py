"""HMAR's behavior encoders (arXiv 2405.09638): one causal self-attention block per behavior, all in one pass."""

import torch
from torch import Tensor, nn

from hmar.layers.attention import causal_attention
from hmar.layers.attention_weights import Attention, causal_weights, heads
from hmar.layers.dropout import Dropout
from hmar.layers.grouped import BehaviorGroups, GroupedLinear


class BehaviorEncoder(nn.Module):
    """For every token x of behavior b, with the weights of b and the tokens of b in its row:

        a = SA_b(x);  y = a + FF_b(a);  z = y + rho_b x,

    SA causal among the tokens of b, FF(a) = Drop( W_2 Drop( ReLU( W_1 a + b_1 ) ) + b_2 ), rho_b starting at 0.
    Equal to running each behavior's block on the masked full sequence and adding up. In training, attention weights
    are dropped with probability ``attention_dropout``.
    """

    def __init__(self, behaviors: int, d: int, heads: int, dropout: float, attention_dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.attention_dropout = attention_dropout
        self.qkv = GroupedLinear(behaviors, d, 3 * d)
        self.inner = GroupedLinear(behaviors, d, d)
        self.outer = GroupedLinear(behaviors, d, d)
        self.rho = nn.Parameter(torch.zeros(behaviors))
        self.dropout = Dropout(dropout)

    def forward(self, x_TD: Tensor, groups: BehaviorGroups) -> Tensor:
        """[T, D] from [T, D], tokens in the order of ``groups``."""
        dropped = self.attention_dropout if self.training else 0.0
        a_TD = causal_attention(self._projected(x_TD, groups), groups.segments, dropped).reshape(x_TD.shape)
        inner_TD = self.dropout(self.inner(a_TD, groups.sizes).relu())
        y_TD = a_TD + self.dropout(self.outer(inner_TD, groups.sizes))
        rho_T = self.rho.index_select(0, groups.behavior)
        z_TD: Tensor = y_TD + rho_T[:, None] * x_TD
        return z_TD

    def attention_weights(self, x_TD: Tensor, groups: BehaviorGroups) -> Attention:
        """Of one history, events in their own order; those of other behaviors weigh nothing."""
        weights_HTT = causal_weights(self._projected(x_TD, groups), groups.segments.lengths)
        return Attention(weights_HTT[:, groups.place[:, None], groups.place], heads(self.heads))

    def _projected(self, x_TD: Tensor, groups: BehaviorGroups) -> Tensor:
        qkv: Tensor = self.qkv(x_TD, groups.sizes)
        return qkv.view(len(x_TD), 3, self.heads, x_TD.shape[1] // self.heads)
