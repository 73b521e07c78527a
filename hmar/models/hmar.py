"""HMAR: hierarchical masked attention for multi-behavior recommendation (arXiv 2405.09638, PAKDD 2024).

A user's events are (v_t, b_t), t = 1..n; B behaviors; E the item table; c_t in N^B the historical behavior indicator
(HBI), for each behavior how often the user has done it with v_t in events 1..t.

1. Input       s_t = Drop( W_f [ sqrt(d) E[v_t] ; W_c c_t + b_c ] + b_f + P_t )
2. Behaviors   Z_t = y_t + rho_b s_t,  y = a + FF_b(a),  a = SA_b(s),  b = b_t: causal attention among the events of
               the same behavior, own weights per behavior, rho_b a scalar that starts at 0
3. Sequence    x = LN( SA(Z) + s );  h = x + FF(x): causal attention over all events
4. Candidate   o_j = W_f [ E[j] ; W_c c_j + b_c ] + b_f,  c_j the counts so far plus one for the behavior asked about,
               the same for the true item and every other;  score r_tj = <h_t, o_j>
5. Behavior    p = softmax( W_2 ReLU( W_1 [ o_{v_{t+1}} ; h_t ] + b_1 ) + b_2 )
6. Loss        mean_t( -alpha_{b_{t+1}} log sigma(r_t,v_{t+1}) - log(1 - sigma(r_t,neg)) ) + theta CE(p, b_{t+1})

Where the paper is silent, here: SA = concat_h softmax(Q_h K_h^T / sqrt(d/H)) V_h, Q, K, V affine, no output projection;
FF(x) = Drop( W_2 Drop( ReLU( W_1 x + b_1 ) ) + b_2 ) of width d; the only layer normalization is that of step 3;
attention weights are not dropped; the behavior head has width d. In step 5, o carries the counts of step 4, so it knows
the behavior asked about, and the term mostly teaches W_c; the state's share in it is what the counts leave open.
With several blocks, steps 2 and 3 are repeated with own weights, step 2's input being the block before, step 3's
residual always s. P counts from the start of the window (see LearnedPositions).

W_f acts on the two halves of its input separately, W_f = [W_1 W_2], so the counts enter as (W_2 W_c) c: one product of
width B per token instead of one of width d.
"""

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from hmar.data.histories import Histories
from hmar.errors import SettingsError
from hmar.layers.attention import Segments
from hmar.layers.behavior_encoder import BehaviorEncoder
from hmar.layers.dropout import Dropout
from hmar.layers.feed_forward import FeedForward
from hmar.layers.grouped import BehaviorGroups
from hmar.layers.permute import permute
from hmar.layers.positions import LearnedPositions
from hmar.layers.self_attention import SelfAttention
from hmar.models.base import Encoder, TrainingBatch, Vocabulary
from hmar.settings import Section, nearest


class HMARConfig(Section):
    """The paper's names."""

    d: int = Field(50, ge=1)
    """Width of items and states."""
    heads: int = Field(1, ge=1)
    blocks: int = Field(1, ge=1)
    """Blocks of each of the two encoders."""
    dropout: float = Field(0.4, ge=0, lt=1)
    theta: float = Field(0.1, ge=0)
    """Weight of the behavior head's loss; 0 leaves the head out."""
    alpha: dict[str, float] = Field(default_factory=dict)
    """Weight of a positive term by the behavior that is predicted, {"buy": 0.7}; a behavior not named weighs 1."""
    hbi: Literal["running", "none"] = "running"
    """Historical behavior indicator: counts up to each event, or none (ablation)."""
    behavior_encoder: bool = True
    """Whether step 2 is there (ablation; the published Yelp and MovieLens scripts leave it out)."""
    sequence_encoder: bool = True
    """Whether step 3 is there (ablation); without it, the state is Z."""
    behaviors: Literal["all", "target"] = "all"
    """Which events are read, counted and predicted: all, or the target behavior's only (ablation)."""
    positions: int = Field(200, ge=1)
    """Size of the position table: the longest history that can be read; at least the training's max_length."""

    @model_validator(mode="after")
    def _sound(self) -> "HMARConfig":
        if self.d % self.heads:
            raise ValueError(f"d must be a multiple of heads, and {self.d} is not one of {self.heads}")
        negative = [name for name, weight in self.alpha.items() if not weight >= 0]
        if negative:
            raise ValueError(f"alpha: the weight of {negative[0]!r} must not be negative")
        return self


class HMAR(Encoder):
    """See the module."""

    Config = HMARConfig
    config: HMARConfig
    alpha: Tensor
    counted: Tensor

    def __init__(self, config: HMARConfig, vocabulary: Vocabulary) -> None:
        """
        Raises:
            SettingsError: alpha names a behavior that the vocabulary has not.
        """
        super().__init__(config, vocabulary)
        d, behaviors = config.d, len(vocabulary.behaviors)
        for name in config.alpha:
            if name not in vocabulary.behaviors:
                raise SettingsError(
                    f"config.alpha: unknown behavior {name!r}{nearest(name, list(vocabulary.behaviors))}"
                )
        counted = torch.ones(behaviors)
        if config.behaviors == "target":
            self.reads = (vocabulary.behaviors[vocabulary.target],)
            counted = torch.eye(behaviors)[vocabulary.target]
        self.register_buffer("counted", counted, persistent=False)
        self.uses_hbi = config.hbi != "none"
        alpha = torch.tensor([config.alpha.get(name, 1.0) for name in vocabulary.behaviors])
        self.register_buffer("alpha", alpha, persistent=False)

        self.items = nn.Embedding(vocabulary.items, d)
        nn.init.normal_(self.items.weight, std=0.02)
        self.fuse = nn.Linear(2 * d if self.uses_hbi else d, d)
        self.counts = nn.Linear(behaviors, d) if self.uses_hbi else None
        self.positions = LearnedPositions(config.positions, d)
        self.dropout = Dropout(config.dropout)
        self.behavior_blocks = nn.ModuleList(
            BehaviorEncoder(behaviors, d, config.heads, config.dropout)
            for _ in range(config.blocks if config.behavior_encoder else 0)
        )
        self.sequence_blocks = nn.ModuleList(
            _SequenceBlock(config) for _ in range(config.blocks if config.sequence_encoder else 0)
        )
        self.head = None
        if config.theta > 0:
            self.head = nn.Sequential(nn.Linear(2 * d, d), nn.ReLU(), nn.Linear(d, behaviors))

    def encode(self, histories: Histories) -> Tensor:
        fused_TD = self._fuse(math.sqrt(self.config.d) * self.items(histories.item), histories.hbi)
        s_TD: Tensor = self.dropout(fused_TD + self.positions(histories))
        x_TD = s_TD
        if self.behavior_blocks:
            groups = BehaviorGroups.of(histories, len(self.vocabulary.behaviors))
            grouped_TD = permute(x_TD, groups.order, groups.place)
            for block in self.behavior_blocks:
                grouped_TD = block(grouped_TD, groups)
            x_TD = permute(grouped_TD, groups.place, groups.order)
        if self.sequence_blocks:
            segments = Segments.of(histories.lengths)
            for block in self.sequence_blocks:
                x_TD = block(x_TD, s_TD, segments)
        return x_TD

    def item_vectors(self, item: Tensor, hbi: Tensor | None) -> Tensor:
        return self._fuse(self.items(item), hbi)

    def _fuse(self, item_D: Tensor, hbi_R: Tensor | None) -> Tensor:
        """W_f [item ; W_c c + b_c] + b_f, [..., D]; leading dimensions of the two broadcast."""
        if self.counts is None or hbi_R is None:
            fused: Tensor = self.fuse(item_D)
            return fused
        of_item, of_counts = self.fuse.weight.chunk(2, dim=1)
        bias = of_counts @ self.counts.bias + self.fuse.bias
        return linear(item_D, of_item) + linear(hbi_R, self._per_count(), bias)

    def count_vectors(self) -> Tensor:
        return self._per_count().T

    def _per_count(self) -> Tensor:
        """W_2 W_c, [D, R]."""
        assert self.counts is not None
        return self.fuse.weight.chunk(2, dim=1)[1] @ self.counts.weight * self.counted

    def position_weights(self, batch: TrainingBatch) -> Tensor | None:
        return self.alpha[batch.next_behavior] if self.config.alpha else None

    def auxiliary_loss(self, states_TD: Tensor, batch: TrainingBatch) -> Tensor | None:
        if self.head is None:
            return None
        next_TD = self.item_vectors(batch.next_item, batch.next_hbi if self.uses_hbi else None)
        logits_TR: Tensor = self.head(torch.cat([next_TD, states_TD], dim=-1))
        return self.config.theta * cross_entropy(logits_TR, batch.next_behavior)


class _SequenceBlock(nn.Module):
    """x = LN( SA(z) + s );  out = x + FF(x)."""

    def __init__(self, config: HMARConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config.d, config.heads)
        self.norm = nn.LayerNorm(config.d)
        self.feed_forward = FeedForward(config.d, config.dropout)

    def forward(self, z_TD: Tensor, s_TD: Tensor, segments: Segments) -> Tensor:
        x_TD = self.norm(self.attention(z_TD, segments) + s_TD)
        out_TD: Tensor = x_TD + self.feed_forward(x_TD)
        return out_TD
