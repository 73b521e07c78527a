"""The end of a ranker that makes one vector of a user: the logit of a candidate from it."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from hmar.layers.prelu_net import logits_of_pairs, prelu_net

HeadKind = Literal["dot", "mlp"]


class UserHead(nn.Module):
    """ATRank's two heads: <u, e_j> + c_j, or net [u; e_j; u * e_j] + c_j, with c an item's bias."""

    def __init__(self, items: int, d: int, kind: HeadKind, hidden: Sequence[int]) -> None:
        """
        Args:
            items: how many have a bias of their own: items, or items times tasks.
            hidden: widths of the layers of the net, which is there for kind mlp only.
        """
        super().__init__()
        self.net = prelu_net([3 * d, *hidden]) if kind == "mlp" else None
        self.bias = nn.Embedding(items, 1)
        nn.init.zeros_(self.bias.weight)

    def forward(self, u: Tensor, e: Tensor, items: Tensor) -> Tensor:
        """Logits [B, N].

        Args:
            u: the user's vector, one for all candidates, [B, D], or one for each, [B, N, D].
            e: candidates' vectors, [B, N, D], or [1, N, D] where all users have the same.
            items: int64, whose bias is each candidate's, [B, N] or [1, N].
        """
        if self.net is not None:
            z_BN = logits_of_pairs(self.net, u if u.dim() == 3 else u[:, None], e)
        elif u.dim() == 2:
            z_BN = (e @ u[:, :, None])[..., 0]
        else:
            z_BN = (u * e).sum(-1)
        logits: Tensor = z_BN + self.bias(items)[..., 0]
        return logits
