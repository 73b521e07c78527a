"""The end of a ranker that makes one vector of a user: the logit of a candidate from it."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hmar.layers.prelu_net import prelu_net

HeadKind = Literal["dot", "mlp"]


class UserHead(nn.Module):
    """ATRank's two heads: <u, e_j> + c_j, or net [u; e_j; u * e_j] + c_j, with c an item's bias."""

    def __init__(self, items: int, d: int, kind: HeadKind, hidden: Sequence[int]) -> None:
        """
        Args:
            hidden: widths of the layers of the net, which is there for kind mlp only.
        """
        super().__init__()
        self.net = prelu_net([3 * d, *hidden]) if kind == "mlp" else None
        self.bias = nn.Embedding(items, 1)
        nn.init.zeros_(self.bias.weight)

    def forward(self, u: Tensor, e: Tensor, items: Tensor) -> Tensor:
        """Logits [B, N].

        Args:
            u: the user's vector, one for all candidates, [B, 1, D], or one for each, [B, N, D].
            e: candidates' vectors, [B, N, D], or [1, N, D] where all users have the same.
            items: int64, the candidates, [B, N] or [1, N].
        """
        if self.net is not None:
            u, e = torch.broadcast_tensors(u, e)
            z_BN = self.net(torch.cat([u, e, u * e], dim=-1))[..., 0]
        elif u.shape[1] == 1:
            z_BN = (e @ u.transpose(1, 2))[..., 0]
        else:
            z_BN = (u * e).sum(-1)
        logits: Tensor = z_BN + self.bias(items)[..., 0]
        return logits
