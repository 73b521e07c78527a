"""Factorization-heads attention, and its form that knows what every event said (DFAR, arXiv 2302.03965, section 3.1).

Every source head h1 attends every target head h2:

    a_{h1,h2}(t, s) = softmax_{s <= t} <q_t^{h1}, k_s^{h2}> / sqrt(D),   o_t^{h1,h2} = sum_s a_{h1,h2}(t, s) v_s^{h2}

with heads of width K = D / H, and all H^2 outputs of a token, source by source, projected to D. The first half of the
heads belongs to negative feedback, g(h) = 0, the rest to positive, and the labels y mask the pairs:

    M_{h1,h2}(t, s) = 1[g(h1) = y_t] 1[g(h2) = y_s]
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, pad

from hmar.layers.attention import causal_attention
from hmar.layers.attention_weights import Attention, heads
from hmar.layers.segments import Segments

Mask = Literal["inside", "product", "after", "none"]

FAR = 1e4
"""What a masked logit is lowered by: its weight is then zero in every number format, and the logit a number in all."""


class FactorizedHeads(nn.Module):
    """[T, D] from [T, D], causal within segments; with its projections, without residual.

    ``mask`` says where the labels enter:

    - inside: a masked event is not in the softmax (equation 11, read as a mask). A pair whose source head is not of
      the query's feedback, or that finds no event of its target head's feedback up to the query, has nothing to attend
      to: its output is zero.
    - product: the logits are multiplied by M (equation 11 to the letter). A masked event has logit 0, which takes part,
      so there is always something to attend to.
    - after: the weights are multiplied by M (the published code); they then add up to one at most.
    - none: no labels.

    With inside and after, a token has H/2 source heads at work, and only their H^2/2 pairs are computed. No matrix of
    weights is ever made: all pairs run through the kernels of :mod:`hmar.layers.attention`.
    """

    def __init__(self, d: int, heads: int, mask: Mask = "inside", pairs: Literal["all", "own"] = "all") -> None:
        """
        Args:
            heads: a divisor of ``d``, even where there is a mask.
            pairs: every head with every head, or each with itself, which is plain multi-head attention.
        """
        super().__init__()
        self.heads, self.mask, self.pairs = heads, mask, pairs
        self.qkv = nn.Linear(d, 3 * d)
        self.out = nn.Linear(d * heads if pairs == "all" else d, d)

    @property
    def width(self) -> int:
        """Of the heads that the kernel is given."""
        plain = self.qkv.in_features // self.heads
        return (plain // 8 + 1) * 8 if self.mask == "inside" else plain

    def forward(self, x_TD: Tensor, liked: Tensor, segments: Segments) -> Tensor:
        """
        Args:
            liked: y, int64 [T], 0 or 1.
        """
        q_THK, k_THK, v_THK = self._heads(x_TD)
        if self.pairs == "own":
            found = self._attend(q_THK, k_THK, v_THK, segments)
        elif self.mask == "none":
            found = self._all_pairs(q_THK, k_THK, v_THK, segments)
        elif self.mask == "product":
            own_TH1 = self._own(liked)[:, :, None].to(q_THK.dtype)
            found = self._all_pairs(q_THK * own_TH1, k_THK * own_TH1, v_THK, segments)
        else:
            found = self._masked(q_THK, k_THK, v_THK, liked, segments)
        out: Tensor = self.out(found.reshape(len(x_TD), self.out.in_features))
        return out

    def attention_weights(self, x_TD: Tensor, liked: Tensor, segments: Segments) -> Attention:
        """Of one history: a map for each pair, source by source, or for each head where each has only itself."""
        q_HTK, k_HTK, _ = (part.transpose(0, 1) for part in self._heads(x_TD))
        logits = torch.einsum("atk,bsk->abts", q_HTK, k_HTK) * self.qkv.in_features**-0.5
        unseen = torch.ones(len(x_TD), len(x_TD), dtype=torch.bool, device=x_TD.device).triu(1)
        own_HT = self._own(liked).T
        alive = own_HT[:, None, :, None] & own_HT[None, :, None, :]
        if self.mask == "product":
            logits = logits * alive
        elif self.mask == "inside":
            unseen = unseen | ~alive
        weights = logits.masked_fill(unseen, -torch.inf).softmax(-1).nan_to_num(0.0)
        if self.mask == "after":
            weights = weights * alive
        if self.pairs == "own":
            return Attention(weights.diagonal().permute(2, 0, 1), heads(self.heads), read="all")
        return Attention(weights.flatten(0, 1), self.pair_names, read="all")

    @property
    def pair_names(self) -> tuple[str, ...]:
        """Source > target, in the order of the outputs; a masked head is named after its feedback."""
        names = heads(self.heads)
        if self.mask != "none":
            half = range(1, self.heads // 2 + 1)
            names = tuple(f"{said} {number}" for said in ("no", "yes") for number in half)
        return tuple(f"{source} > {target}" for source in names for target in names)

    def _heads(self, x_TD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens, d = x_TD.shape
        q_THK, k_THK, v_THK = self.qkv(x_TD).view(tokens, 3, self.heads, d // self.heads).unbind(1)
        return q_THK, k_THK, v_THK

    def _own(self, liked: Tensor) -> Tensor:
        """1[g(h) = y_t], bool [T, H]."""
        group = torch.arange(self.heads, device=liked.device) * 2 // self.heads
        return group == liked[:, None]

    def _all_pairs(self, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, segments: Segments) -> Tensor:
        """[T, H', H, K] for H' source heads."""
        tokens, sources, width = q_THK.shape
        shape = (tokens, sources, self.heads, width)
        paired = (q_THK[:, :, None], k_THK[:, None], v_THK[:, None])
        q, k, v = (each.expand(shape).flatten(1, 2) for each in paired)
        return self._attend(q, k, v, segments).view(shape)

    def _masked(self, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, liked: Tensor, segments: Segments) -> Tensor:
        """[T, H, H, K]; zeros where the source head is not of the token's feedback."""
        tokens, heads, width = q_THK.shape
        halved = (tokens, 2, heads // 2)
        own_TH1 = self._own(liked)[:, :, None]
        q_THK = q_THK.view(*halved, width).gather(1, liked.view(-1, 1, 1, 1).expand(-1, 1, heads // 2, width))[:, 0]
        if self.mask == "after":
            found = self._all_pairs(q_THK, k_THK, v_THK * own_TH1, segments)
        else:
            found = self._excluding(q_THK, k_THK, v_THK, own_TH1, segments)
            found = found * self._any_so_far(liked, segments)[:, None, :, None]
        placed = one_hot(liked, 2).to(found.dtype)[:, :, None, None, None] * found[:, None]
        return placed.flatten(1, 2)

    def _excluding(self, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, own_TH1: Tensor, segments: Segments) -> Tensor:
        """The pairs where heads have one number more: 1 in a query, in a key 0 or what lowers the logit. A masked
        event then weighs nothing, whatever the kernel, unless all are masked."""
        more = self.width - q_THK.shape[2]
        # The query's factor undoes the division by sqrt(D) that comes later, so that FAR is what the logit loses.
        ones = q_THK.new_full((*q_THK.shape[:2], 1), self.qkv.in_features**0.5)
        far = own_TH1.logical_not().to(k_THK.dtype) * -FAR
        q_THK = pad(torch.cat([q_THK, ones], dim=2), (0, more - 1))
        k_THK = pad(torch.cat([k_THK, far], dim=2), (0, more - 1))
        return self._all_pairs(q_THK, k_THK, pad(v_THK, (0, more)), segments)[..., :-more]

    def _any_so_far(self, liked: Tensor, segments: Segments) -> Tensor:
        """Whether a segment has an event of each head's feedback up to the token, bool [T, H]."""
        running_TH = self._own(liked).cumsum(0)
        before_TH = pad(running_TH, (0, 0, 1, 0))[segments.lengths.cumsum(0) - segments.lengths]
        return running_TH > before_TH.repeat_interleave(segments.lengths, dim=0, output_size=len(liked))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
        """[T, P, K'] of P pairs; logits are divided by sqrt(D), of which the kernel does sqrt(K')."""
        scale = (q.shape[2] / self.qkv.in_features) ** 0.5
        return causal_attention(torch.stack([q * scale, k, v], dim=1), segments)


class FactorizedBlock(nn.Module):
    """x' = x + Drop( FHA( LN(x) ) ), then x' + FF( LN(x') ); [T, D] from [T, D]."""

    def __init__(self, attention: FactorizedHeads, feed_forward: nn.Module, dropout: nn.Module) -> None:
        super().__init__()
        d = attention.qkv.in_features
        self.attention, self.feed_forward, self.dropout = attention, feed_forward, dropout
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(d), nn.LayerNorm(d)

    def forward(self, x_TD: Tensor, liked: Tensor, segments: Segments) -> Tensor:
        """
        Args:
            liked: int64 [T], 0 or 1.
        """
        x_TD = x_TD + self.dropout(self.attention(self.attention_norm(x_TD), liked, segments))
        states_TD: Tensor = x_TD + self.feed_forward(self.feed_forward_norm(x_TD))
        return states_TD
