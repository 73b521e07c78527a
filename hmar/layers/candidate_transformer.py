"""A transformer over a history with the candidate as one more element, whose history part is computed once.

Every event attends to all events and to the candidate. Were all of that done for every candidate, a history would be
encoded anew for each. It need not be: with a_i the attention of event i among the events alone and l_i the log of the
sum of its exponentials, what event i sees when candidate q is there is exactly

    o_iq = a_i + g_iq (v_q - a_i),  g_iq = sigma( <Q x_i, K q> / sqrt(d_h) - l_i ),

a softmax over one more element. a_i and l_i are made once; a candidate costs one product and one gate per event and
head, and the first layer of the feed-forward net, whose ReLU is where the exact factorization ends. The second layer is
affine, so it is applied once to the mean and not to every event.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.layers.attention_weights import Attention, heads
from hmar.layers.grid import Grid


@dataclass(frozen=True)
class EncodedEvents:
    """What does not depend on the candidate.

    Attributes:
        query, key, value: [B, H, L, K] on the grid of the histories, queries divided by sqrt(K).
        among: a, [T, H, K]. log_sum: l, [T, H].
    """

    query: Tensor
    key: Tensor
    value: Tensor
    among: Tensor
    log_sum: Tensor


class CandidateTransformer(nn.Module):
    """f = mean over z in {q, x_1 .. x_n} of W_2 ReLU( W_1 o_z + b_1 ) + b_2, where o = multi-head attention of
    {q, x_1 .. x_n} to itself, scaled by sqrt(d_h), not causal.

    One layer without residual and normalization, as in DFN's published code. Of an empty history it is the net of the
    candidate's own value. Keys have no bias: a softmax does not see it.
    """

    def __init__(self, d: int, heads: int, inner: int) -> None:
        """
        Args:
            inner: width of the feed-forward net's inner layer.
        """
        super().__init__()
        self.heads, self.scale = heads, (d // heads) ** -0.5
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.inner = nn.Linear(d, inner)
        self.outer = nn.Linear(inner, d)

    def events(self, x_TD: Tensor, histories: Histories) -> EncodedEvents:
        """To be made once for all candidates."""
        grid = Grid.of(histories)
        q_BHLK, k_BHLK, v_BHLK = (
            grid.spread(part_THK).transpose(1, 2) for part_THK in self._projected(x_TD).unbind(-3)
        )
        scores_BHLL = q_BHLK @ k_BHLK.transpose(2, 3)
        scores_BHLL = scores_BHLL.masked_fill(~grid.real[:, None, None], torch.finfo(scores_BHLL.dtype).min)
        log_sum_BHL = scores_BHLL.logsumexp(-1)
        among_BHLK = (scores_BHLL - log_sum_BHL[..., None]).exp().to(v_BHLK.dtype) @ v_BHLK
        packed = [each.transpose(1, 2).flatten(0, 1)[grid.cell] for each in (among_BHLK, log_sum_BHL)]
        return EncodedEvents(q_BHLK, k_BHLK, v_BHLK, *packed)

    def forward(self, events: EncodedEvents, candidates: Tensor, histories: Histories) -> Tensor:
        """f, [B, N, D], for candidates [B, N, D], or [1, N, D] that every row is asked about."""
        own_q, own_k, own_v = (each.transpose(1, 2) for each in self._projected(candidates).unbind(-3))
        of_events_BNF = self._of_events(events, own_k, own_v, histories)
        weights_BHNM = self._of_candidate(events, own_q, own_k, histories)
        o_BHNK = weights_BHNM[..., :-1].to(own_v.dtype) @ events.value + weights_BHNM[..., -1:] * own_v
        of_candidate_BNF = self.inner(o_BHNK.transpose(1, 2).flatten(2)).relu()
        elements_B11 = histories.lengths[:, None, None] + 1
        pooled: Tensor = self.outer((of_events_BNF + of_candidate_BNF) / elements_B11)
        return pooled

    def attention_weights(self, events: EncodedEvents, candidates: Tensor, histories: Histories) -> Attention:
        """The candidates' weights of one history's events; what a row lacks to 1 is its weight of the candidate."""
        own_q, own_k, _ = (each.transpose(1, 2) for each in self._projected(candidates).unbind(-3))
        weights_HNM = self._of_candidate(events, own_q, own_k, histories)[0]
        return Attention(weights_HNM[..., :-1], heads(self.heads), "candidates")

    def _of_candidate(self, events: EncodedEvents, own_q: Tensor, own_k: Tensor, histories: Histories) -> Tensor:
        """The candidates' weights of the L cells of the history and, last, of themselves, [B, H, N, L + 1]."""
        scores_BHNL = own_q @ events.key.transpose(2, 3)
        lowest = torch.finfo(scores_BHNL.dtype).min
        scores_BHNL = scores_BHNL.masked_fill(~Grid.of(histories).real[:, None, None], lowest)
        itself_BHN1 = (own_q * own_k).sum(-1, keepdim=True).expand(len(scores_BHNL), -1, -1, -1)
        weights: Tensor = torch.cat([scores_BHNL, itself_BHN1.to(scores_BHNL.dtype)], dim=-1).softmax(-1)
        return weights

    def _of_events(self, events: EncodedEvents, own_k: Tensor, own_v: Tensor, histories: Histories) -> Tensor:
        """Sum over a row's events of ReLU( W_1 o_iq + b_1 ), [B, N, F]."""
        scores_BLNH = (events.query @ own_k.transpose(2, 3)).permute(0, 2, 3, 1)
        scores_TNH = scores_BLNH.flatten(0, 1)[Grid.of(histories).cell]
        gate_TNH = (scores_TNH - events.log_sum[:, None]).sigmoid()
        v_TNHK = own_v.transpose(1, 2)
        if len(v_TNHK) != 1:
            v_TNHK = v_TNHK[histories.row]
        among_TNHK = events.among[:, None]
        o_TNHK = among_TNHK + gate_TNH[..., None].to(among_TNHK.dtype) * (v_TNHK - among_TNHK)
        inner_TNF = self.inner(o_TNHK.flatten(2)).relu()
        rows = inner_TNF.new_zeros(len(histories), *inner_TNF.shape[1:])
        summed: Tensor = rows.index_add(0, histories.row, inner_TNF)
        return summed

    def _projected(self, x: Tensor) -> Tensor:
        """Queries, keys and values, [..., 3, H, K]."""
        stacked: Tensor = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        return stacked * stacked.new_tensor([self.scale, 1, 1])[:, None, None]
