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
attention weights are not dropped; the behavior head has width d. The published code does otherwise in these and other
points: attention_dropout, last_norm, positions_from, first_weights and, what gives the answer away, hbi, candidate_hbi
and mirrored_context are settings, and off. In step 5, o carries the counts of step 4, so it knows
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
from torch.nn.functional import cross_entropy, embedding, linear

from hmar.data.histories import Histories
from hmar.data.published import PublishedContext
from hmar.errors import SettingsError
from hmar.layers.behavior_encoder import BehaviorEncoder
from hmar.layers.dropout import Dropout
from hmar.layers.feed_forward import FeedForward
from hmar.layers.grouped import BehaviorGroups
from hmar.layers.kernels import choose
from hmar.layers.permute import permute
from hmar.layers.positions import LearnedPositions
from hmar.layers.segments import Segments
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
    hbi: Literal["running", "final", "none"] = "running"
    """Historical behavior indicator: counts up to each event, or none (ablation); final: over the user's whole file,
    the test event included, a leak of the published code."""
    candidate_hbi: Literal["running", "published"] = "running"
    """Counts of a candidate: those so far plus one for the behavior asked about, one rule for all; published: a leak
    of the published code, which tells the true item from the others (hmar/data/published.py)."""
    mirrored_context: bool = False
    """Whether counts and the labels of step 5 run newest to oldest against the events, as in the published code; a
    leak, since they are those of events to come."""
    behavior_encoder: bool = True
    """Whether step 2 is there (ablation; the published Yelp and MovieLens scripts leave it out)."""
    sequence_encoder: bool = True
    """Whether step 3 is there (ablation); without it, the state is Z."""
    behaviors: Literal["all", "target"] = "all"
    """Which events are read, counted and predicted: all, or the target behavior's only (ablation)."""
    attention_dropout: float = Field(0.0, ge=0, lt=1)
    """Of attention weights; the published code drops as many of them as of all else."""
    positions_from: Literal["oldest", "newest"] = "oldest"
    """Where P counts from; newest as in the published code, which pads on the left, and not causal in training."""
    last_norm: bool = False
    """Whether each block of step 3 ends in a layer normalization, as in the published MovieLens script."""
    first_weights: Literal["house", "published"] = "house"
    """How training begins: published as in the published code (Glorot et al., AISTATS 2010, but 0.01 times a standard
    normal in W_f, W_c and the behavior head; no biases), which is slow to begin with."""
    positions: int = Field(200, ge=1)
    """Size of the position table: the longest history that can be read; at least the training's max_length."""

    @model_validator(mode="after")
    def _sound(self) -> "HMARConfig":
        if self.d % self.heads:
            raise ValueError(f"d must be a multiple of heads, and {self.d} is not one of {self.heads}")
        negative = [name for name, weight in self.alpha.items() if not weight >= 0]
        if negative:
            raise ValueError(f"alpha: the weight of {negative[0]!r} must not be negative")
        if self.hbi == "none" and self.candidate_hbi != "running":
            raise ValueError("candidate_hbi: there are no counts under hbi none; leave it out")
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
        context = PublishedContext(
            final=config.hbi == "final",
            candidates=config.candidate_hbi == "published",
            mirrored=config.mirrored_context,
        )
        self.published = context if context.leaks else None
        alpha = torch.tensor([config.alpha.get(name, 1.0) for name in vocabulary.behaviors])
        self.register_buffer("alpha", alpha, persistent=False)

        self.items = nn.Embedding(vocabulary.items, d)
        nn.init.normal_(self.items.weight, std=0.02)
        self.fuse = nn.Linear(2 * d if self.uses_hbi else d, d)
        self.counts = nn.Linear(behaviors, d) if self.uses_hbi else None
        self.positions = LearnedPositions(config.positions, d, config.positions_from == "newest")
        self.dropout = Dropout(config.dropout)
        self.behavior_blocks = nn.ModuleList(
            BehaviorEncoder(behaviors, d, config.heads, config.dropout, config.attention_dropout)
            for _ in range(config.blocks if config.behavior_encoder else 0)
        )
        self.sequence_blocks = nn.ModuleList(
            _SequenceBlock(config) for _ in range(config.blocks if config.sequence_encoder else 0)
        )
        self.head = None
        if config.theta > 0:
            self.head = nn.Sequential(nn.Linear(2 * d, d), nn.ReLU(), nn.Linear(d, behaviors))

        if config.first_weights == "published":
            self._begin_as_published()

    def _begin_as_published(self) -> None:
        small = [self.fuse, self.counts, *(self.head or [])]
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.startswith(("items.", "positions.")):
                nn.init.xavier_uniform_(parameter)
            elif "blocks." in name and parameter.ndim > 1:  # matrices of d rows and columns, some side by side
                nn.init.uniform_(parameter, -math.sqrt(3 / self.config.d), math.sqrt(3 / self.config.d))
        for layer in small:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)

    def plan(self, histories: Histories, device: torch.device, dtype: torch.dtype) -> None:
        self.positions.plan(histories)
        dropped = self.config.attention_dropout if self.training else 0.0
        kernel = choose(device, dtype, self.config.d // self.config.heads, dropped)
        if self.behavior_blocks:
            BehaviorGroups.of(histories, len(self.vocabulary.behaviors)).segments.form(kernel)
        if self.sequence_blocks:
            Segments.of_rows(histories).form(kernel)

    def encode(self, histories: Histories) -> Tensor:
        fused_TD = self._fuse(histories.item, histories.hbi, math.sqrt(self.config.d))
        s_TD: Tensor = self.dropout(fused_TD + self.positions(histories))
        x_TD = s_TD
        if self.behavior_blocks:
            groups = BehaviorGroups.of(histories, len(self.vocabulary.behaviors))
            grouped_TD = permute(x_TD, groups.order, groups.place)
            for block in self.behavior_blocks:
                grouped_TD = block(grouped_TD, groups)
            x_TD = permute(grouped_TD, groups.place, groups.order)
        if self.sequence_blocks:
            segments = Segments.of_rows(histories)
            for block in self.sequence_blocks:
                x_TD = block(x_TD, s_TD, segments)
        return x_TD

    def item_vectors(self, item: Tensor, hbi: Tensor | None) -> Tensor:
        return self._fuse(item, hbi)

    def _fuse(self, item: Tensor, hbi_R: Tensor | None, scale: float = 1.0) -> Tensor:
        """W_f [scale E[item] ; W_c c + b_c] + b_f, [..., D]; leading dimensions of the two broadcast."""
        if self.counts is None or hbi_R is None:
            return self._projected(item, scale, self.fuse.weight, self.fuse.bias)
        of_item, of_counts = self.fuse.weight.chunk(2, dim=1)
        bias = of_counts @ self.counts.bias + self.fuse.bias
        projected_D = self._projected(item, scale, of_item, bias)
        if projected_D.shape[:-1] != hbi_R.shape[:-1]:
            return projected_D + linear(hbi_R, self._per_count())
        # Added within the product; its gradient is then a product in the order that is fast for so few counts.
        flat = torch.addmm(projected_D.reshape(-1, self.config.d), hbi_R.flatten(0, -2), self._per_count().T)
        return flat.view(projected_D.shape)

    def _projected(self, item: Tensor, scale: float, weight_DD: Tensor, bias_D: Tensor) -> Tensor:
        """W scale E[item] + b, [..., D]. Where more items are asked for than there are, each is projected once; on a
        GPU that would save nothing, and under autocast an item's gradient would be added up in low precision."""
        table_VD = self.items.weight
        if item.numel() > len(table_VD) and item.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            return embedding(item, linear(table_VD * scale, weight_DD, bias_D))
        return linear(self.items(item) * scale, weight_DD, bias_D)

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
        label = batch.next_behavior if batch.behavior_label is None else batch.behavior_label
        return self.config.theta * cross_entropy(logits_TR, label)


class _SequenceBlock(nn.Module):
    """x = LN( SA(z) + s );  out = x + FF(x), or LN(out)."""

    def __init__(self, config: HMARConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config.d, config.heads, config.attention_dropout)
        self.norm = nn.LayerNorm(config.d)
        self.feed_forward = FeedForward(config.d, config.dropout)
        self.last_norm = nn.LayerNorm(config.d) if config.last_norm else nn.Identity()

    def forward(self, z_TD: Tensor, s_TD: Tensor, segments: Segments) -> Tensor:
        x_TD = self.norm(self.attention(z_TD, segments) + s_TD)
        out_TD: Tensor = self.last_norm(x_TD + self.feed_forward(x_TD))
        return out_TD
