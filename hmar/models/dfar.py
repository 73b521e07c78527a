"""DFAR: dual-interest factorization-heads attention (Lin et al., WWW 2023, arXiv 2302.03965).

With E the item table, P learned positions, Lab_0 and Lab_1 learned vectors of negative and positive feedback, y_t the
feedback of event t (0 where its behavior says no, else 1), n events:

    s_t = Drop( E[v_t] + P_t + Lab[y_t] )
    S   = FFHA block of s                       (pairs of heads, masked by feedback; hmar.layers.factorized_heads)
    S^P = FHA block of S * y,  S^N = FHA block of S * (1 - y)                        (weights of their own, no mask)
    f^P = sum_t softmax_t( a( S^P_t, E[j] + Lab_1 ) / sqrt(d) ) S^P_t                (f^N likewise, with Lab_0)
    z^P = net [s; s^P; f^P; E[j] + Lab_1],  z^N = net [s; s^N; f^N; E[j] + Lab_0]    (s, s^P, s^N: means of S, S^P, S^N)
    L   = log loss of z^P + lambda_bpr mean( -log sigma( (2 y - 1) (z^P - z^N) ) ) + lambda_d mean( cos(f^P, f^N) )

z^P is the logit; l2 is the optimizer's (``weight_decay``). How the paper is read:

- An event that S * y zeroes is no key and no query of that branch, as in the published code, so a branch computes on
  its own events only. Its means are over all n events, the others being zero; a branch without events gives zeros, and
  takes no part in L_D.
- A token for which the mask of FFHA leaves nothing to attend to gets zero from that pair (``mask: inside``); then its
  residual remains.
- a and the nets are those of DIN here, with PReLU layers and, in a, products of key and query, like the published code.
- ``cosine: maximized`` is the published code's sign of L_D. What it has beside that (attention over S's inputs, a
  softmax over pairs, a causal mask that mixes time with heads, BPR of mean attention weights) is not here.

Beyond the paper: the event's behavior and the time since are inputs, as for every other ranker (``behavior``,
``time``).
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, softplus

from hmar.data.histories import Histories
from hmar.data.impressions import ImpressionBatch
from hmar.layers.attention_weights import Attention
from hmar.layers.by_feedback import Half, halves
from hmar.layers.dropout import Dropout
from hmar.layers.event_inputs import EventInputs
from hmar.layers.factorized_heads import FactorizedBlock, FactorizedHeads, Mask
from hmar.layers.feed_forward import FeedForward
from hmar.layers.grid import Grid
from hmar.layers.kernels import choose
from hmar.layers.positions import LearnedPositions
from hmar.layers.prelu_net import prelu_net
from hmar.layers.segments import Segments
from hmar.layers.target_attention import Keys, TargetAttention
from hmar.models.base import CandidateCounts, Vocabulary
from hmar.models.ranker import Ranker, RankerLoss, per_candidate
from hmar.settings import Section, Widths


class DFARConfig(Section):
    """The paper's names where it has some."""

    d: int = Field(32, ge=1)
    """Width of items and states."""
    heads: int = Field(2, ge=1)
    """H; even where feedback masks the heads."""
    pairs: Literal["all", "own"] = "all"
    """FHA, every head with every head, or plain multi-head attention, which needs mask none (ablation: without FHA)."""
    mask: Mask = "inside"
    """Where feedback masks the pairs of heads: inside the softmax, events that are masked left out (inside) or with
    logit 0 (product); after the softmax (after, the published code's); nowhere (none; ablation MO)."""
    attention: Widths = (36,)
    """Widths of the layers of the target attention's scorer."""
    hidden: Widths = (80, 40)
    """Widths of the layers of each tower."""
    lambda_bpr: float = Field(0.1, ge=0)
    """Weight of the dual BPR; 0: none, and no negative tower (ablation IBL)."""
    lambda_d: float = Field(0.1, ge=0)
    """Weight of the disentangling loss; 0: none (ablation IDL)."""
    cosine: Literal["minimized", "maximized"] = "minimized"
    """What the disentangling loss wants of cos(f^P, f^N): the paper's, or the published code's sign."""
    behavior: bool = True
    """Whether the behavior of an event is an input."""
    time: bool = True
    """Whether the time since an event is an input."""
    positions: int = Field(200, ge=1)
    """Size of the position table: the longest history that can be read; at least the training's max_length."""
    dropout: float = Field(0.1, ge=0, lt=1)
    std: float = Field(0.1, gt=0)
    """Standard deviation of the vectors of items and labels at the start: larger learns a dense log sooner, smaller
    generalizes from a sparse one."""

    @field_validator("heads")
    @classmethod
    def _heads_divide(cls, heads: int, info: ValidationInfo) -> int:
        if info.data.get("d", heads) % heads:
            raise ValueError(f"d must be a multiple of heads, and {info.data['d']} is not one of {heads}")
        return heads

    @field_validator("mask")
    @classmethod
    def _mask_fits(cls, mask: Mask, info: ValidationInfo) -> Mask:
        if mask != "none" and info.data.get("pairs") == "own":
            raise ValueError("a mask is for pairs of heads, and with pairs own there are none; set none")
        if mask != "none" and info.data.get("heads", 2) % 2:
            raise ValueError(
                "one half of the heads belongs to each feedback; set heads to an even number, or none here"
            )
        return mask


@dataclass(frozen=True)
class Side:
    """One interest of the histories, whoever the candidates are.

    Attributes:
        half: its events. keys: their states, to be attended to. inner: [B, h], what the tower's first layer makes of
            the means.
    """

    half: Half
    keys: Keys
    inner: Tensor


@dataclass(frozen=True)
class Encoded:
    """S, float [T, D], its means [B, D], and the positive side."""

    states: Tensor
    mean: Tensor
    positive: Side


class DFAR(Ranker):
    """See the module."""

    Config = DFARConfig
    config: DFARConfig

    def __init__(self, config: DFARConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        d = config.d
        self.items = nn.Embedding(vocabulary.items, d)
        self.labels = nn.Embedding(2, d)
        for table in (self.items, self.labels):
            nn.init.normal_(table.weight, std=config.std)
        self.positions = LearnedPositions(config.positions, d)
        self.inputs = EventInputs(d, len(vocabulary.behaviors), behavior=config.behavior, time=config.time, std=0.1)
        self.dropout = Dropout(config.dropout)
        self.block = _block(config, config.mask)
        self.positive = Interest(config, tower=True)
        asked = config.lambda_bpr > 0 or config.lambda_d > 0
        self.negative = Interest(config, tower=config.lambda_bpr > 0) if asked else None

    def plan(self, histories: Histories, device: torch.device, dtype: torch.dtype) -> None:
        self.positions.plan(histories)
        parts = halves(histories, self.liked(histories)) if self.said.device == histories.offsets.device else ()
        for some, block in ((histories, self.block), *((half.histories, self.positive.block) for half in parts)):
            Grid.of(some)
            Segments.of_rows(some).form(choose(device, dtype, block.attention.width))

    def looks_at(self, history: Histories, seen: CandidateCounts, items: Tensor) -> dict[str, Attention]:
        """As in the base class; the positive branch looks at its own events only, at the others with weight 0."""
        found = super().looks_at(history, seen, items)
        token = halves(history, self.liked(history))[1].token
        for name in [name for name in found if name.startswith("positive.")]:
            found[name] = _among_all(found[name], token, len(history.item))
        return found

    def states(self, histories: Histories) -> Tensor:
        """S, [T, D]; token t knows nothing of tokens after it."""
        liked = self.liked(histories)
        x_TD = self.items(histories.item) + self.positions(histories) + self.labels(liked)
        x_TD = self.dropout(self.inputs(x_TD, histories))
        states_TD: Tensor = self.block(x_TD, liked, Segments.of_rows(histories))
        return states_TD

    def encode(self, histories: Histories) -> Encoded:
        states_TD = self.states(histories)
        mean_BD = _mean(states_TD, histories, histories)
        return Encoded(states_TD, mean_BD, self._side(1, states_TD, mean_BD, histories))

    def interact(self, encoded: Encoded, histories: Histories, items: Tensor) -> Tensor:
        asked = self.items(items) + self.labels.weight[1]
        return self.positive.logits(encoded.positive, self.positive.interest(encoded.positive, asked), asked)

    def training_loss(self, batch: ImpressionBatch, loss: RankerLoss) -> Tensor:
        """The log loss of z^P, the dual BPR and the disentangling loss."""
        encoded = self.encode(batch.histories)
        asked_BND = self.items(batch.items)
        liked_BND = asked_BND + self.labels.weight[1]
        positive_BND = self.positive.interest(encoded.positive, liked_BND)
        logits_BN = self.positive.logits(encoded.positive, positive_BND, liked_BND)
        total = loss(logits_BN, batch)
        if self.negative is None:
            return total
        other = self._side(0, encoded.states, encoded.mean, batch.histories)
        disliked_BND = asked_BND + self.labels.weight[0]
        negative_BND = self.negative.interest(other, disliked_BND)
        if self.config.lambda_bpr:
            gap_BN = logits_BN - self.negative.logits(other, negative_BND, disliked_BND)
            bpr_BN = softplus((1 - 2 * batch.labels.to(gap_BN.dtype)) * gap_BN)
            total = total + self.config.lambda_bpr * per_candidate(bpr_BN, batch)
        if self.config.lambda_d:
            cosine_BN = cosine_similarity(positive_BND, negative_BND, dim=-1)
            both_B = (encoded.positive.half.histories.lengths > 0) & (other.half.histories.lengths > 0)
            apart = per_candidate(cosine_BN.masked_fill(~both_B[:, None], 0.0), batch)
            total = total + self.config.lambda_d * (apart if self.config.cosine == "minimized" else -apart)
        return total

    def _side(self, label: int, states_TD: Tensor, mean_BD: Tensor, histories: Histories) -> Side:
        half = halves(histories, self.liked(histories))[label]
        interest = self.positive if label else self.negative
        assert interest is not None
        return interest.side(half, states_TD, mean_BD, histories)


class Interest(nn.Module):
    """The branch, the target attention and the tower of one feedback."""

    def __init__(self, config: DFARConfig, tower: bool) -> None:
        super().__init__()
        d = config.d
        self.block = _block(config, "none")
        self.attention = TargetAttention(d, config.attention)
        # The first layer on [s; s^P; f^P; E_j + Lab], of which only the last two terms depend on a candidate.
        self.means = nn.Linear(2 * d, config.hidden[0]) if tower else None
        self.found = nn.Linear(d, config.hidden[0], bias=False) if tower else None
        self.asked = nn.Linear(d, config.hidden[0], bias=False) if tower else None
        self.net = nn.Sequential(nn.PReLU(), prelu_net(config.hidden)) if tower else None

    def side(self, half: Half, states_TD: Tensor, mean_BD: Tensor, histories: Histories) -> Side:
        """What does not depend on candidates.

        Args:
            states_TD: S. mean_BD: its means.
        """
        liked = torch.zeros_like(half.token)
        own_TD = self.block(states_TD[half.token], liked, Segments.of_rows(half.histories))
        means = torch.cat([mean_BD, _mean(own_TD, half.histories, histories)], dim=-1)
        inner = means if self.means is None else self.means(means)
        return Side(half, self.attention.keys(own_TD), inner)

    def interest(self, side: Side, asked: Tensor) -> Tensor:
        """f, [B, N, D], for candidates [B, N, D] or [1, N, D]."""
        pooled: Tensor = self.attention(side.keys, asked, side.half.histories)
        return pooled

    def logits(self, side: Side, found_BND: Tensor, asked: Tensor) -> Tensor:
        """z, [B, N]."""
        assert self.found is not None
        assert self.asked is not None
        assert self.net is not None
        inner_BNH = self.found(found_BND) + self.asked(asked) + side.inner[:, None]
        logits: Tensor = self.net(inner_BNH)[..., 0]
        return logits


def _block(config: DFARConfig, mask: Mask) -> FactorizedBlock:
    attention = FactorizedHeads(config.d, config.heads, mask, config.pairs)
    return FactorizedBlock(attention, FeedForward(config.d, config.dropout), Dropout(config.dropout))


def _mean(x_TD: Tensor, some: Histories, histories: Histories) -> Tensor:
    """Sums over the events of ``some`` divided by the number of all events of ``histories``, [B, D]."""
    sums_BD = Grid.of(some).spread(x_TD).sum(1)
    return sums_BD / histories.lengths.clamp(min=1)[:, None].to(x_TD.dtype)


def _among_all(attention: Attention, token: Tensor, events: int) -> Attention:
    """Weights of the events at places ``token``, among all events of the history."""
    weights = attention.weights
    if attention.queries == "events":
        weights = weights.new_zeros(len(weights), events, len(token)).index_copy(1, token, weights)
    weights = weights.new_zeros(*weights.shape[:2], events).index_copy(2, token, weights[..., : len(token)])
    return replace(attention, weights=weights)
