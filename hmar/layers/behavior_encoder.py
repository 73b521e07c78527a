"""HMAR's behavior encoders (arXiv 2405.09638): one causal self-attention block per behavior, all in one pass."""

import torch
from torch import Tensor, nn

from hmar.layers.attention import causal_attention
from hmar.layers.dropout import Dropout
from hmar.layers.grouped import BehaviorGroups, GroupedLinear


class BehaviorEncoder(nn.Module):
    """For every token x of behavior b, with the weights of b and the tokens of b in its row:

        a = SA_b(x);  y = a + FF_b(a);  z = y + rho_b x,

    SA causal among the tokens of b, FF(a) = Drop( W_2 Drop( ReLU( W_1 a + b_1 ) ) + b_2 ), rho_b starting at 0.
    Equal to running each behavior's block on the masked full sequence and adding up.
    """

    def __init__(self, behaviors: int, d: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = GroupedLinear(behaviors, d, 3 * d)
        self.inner = GroupedLinear(behaviors, d, d)
        self.outer = GroupedLinear(behaviors, d, d)
        self.rho = nn.Parameter(torch.zeros(behaviors))
        self.dropout = Dropout(dropout)

    def forward(self, x_TD: Tensor, groups: BehaviorGroups) -> Tensor:
        """[T, D] from [T, D], tokens in the order of ``groups``."""
        qkv_T3HK = self.qkv(x_TD, groups.sizes).view(len(x_TD), 3, self.heads, x_TD.shape[1] // self.heads)
        a_TD = causal_attention(qkv_T3HK, groups.segments).reshape(x_TD.shape)
        inner_TD = self.dropout(self.inner(a_TD, groups.sizes).relu())
        y_TD = a_TD + self.dropout(self.outer(inner_TD, groups.sizes))
        sizes = torch.tensor(groups.sizes, device=x_TD.device)
        rho_T = self.rho.repeat_interleave(sizes, output_size=len(x_TD))
        z_TD: Tensor = y_TD + rho_T[:, None] * x_TD
        return z_TD
