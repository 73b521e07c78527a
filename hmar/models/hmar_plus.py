"""hmar_plus: a model of our own, HMAR's ideas with a query that knows what is asked and evidence for what was seen.

A user's events are (v_t, b_t, tau_t), t = 1..n, of B behaviors; E the item table, P learned positions, N blocks. The
question at t is about an item j, a behavior b and a moment tau; c_tj in N^B counts what the user has done with j in
events 1..t (HMAR's historical behavior indicator), of which e_tj events ago the last was, a behavior l_tj, at the time
tau - a_tj; age(.) is the bucket of a span of time. A, D, Q, S, step 2, the gate, the bias and evidence are switches.

1. Input      x_t = Drop( sqrt(d) E[v_t] + P_t + A[b_t] + D[age(tau_t - tau_{t-1})] ), D's last row for a first event
2. Behaviors  x = x + BE(x): HMAR's behavior encoders, causal attention among events of one behavior (off by default)
3. Sequence   x = x + Drop( SA( LN(x) ) );  x = x + Drop( W_2 GELU( W_1 LN(x) + b_1 ) + b_2 ), of width 2 d, N times;
              gated: SA' = W_o ( LN( SA(y) ) * SiLU( W_u y + b_u ) ) + b_o, y = LN(x), in place of SA (the gate of HSTU,
              Zhai et al., ICML 2024, arXiv 2402.17152, around a softmax);  h_t = LN(x_t)
4. Query      q_t = h_t + W_4 GELU( W_3 [ h_t ; Q[b] ] + b_3 ) + b_4;  now: Q[b] + S[age(tau - tau_t)] for Q[b]
5. Item       o_j = E[j], and beta_j + w log(1 + pop_j), pop_j the target events of j in training
6. Evidence   phi_tj = [ 1 ; log(1 + c_tj) ; onehot l_tj ; onehot floor log2 e_tj ; onehot age(a_tj) ], 0 for an item
              that the user never had;  g_t = W_g q_t + b_g
7. Score      s_tj = <q_t, o_j> + beta_j + w log(1 + pop_j) + <g_t, phi_tj>

Training asks at every position for the next event's behavior at its time; positions whose next behavior is not the
target weigh ``auxiliary``. Evaluation asks for the target at the moment of asking. Evidence follows one rule for the
true item and all others, in training and in evaluation, and is point-in-time: an event tells of itself only after it.
The rule Recent, up to the buckets of e_tj, is the special case in which g_t is the same everywhere and falls with it.
Where items do not recur, what was used up is in no ranking; ``consumed`` says whether evidence has to learn that or
training leaves it out, too.

Left out, since validation decided it one way here and the other there (benchmarks/ablations*.yaml, NDCG@10, one seed):
behavior encoders (+.005 on MovieLens 100K, -.018 in a made-up shop), gated blocks (-.009, +.004).

SA is as in :mod:`hmar.models.sasrec`. Evidence is linear in features that hold nothing learned, so a catalog's scores
are one matrix product and a correction in the cells of the history, which losses and ranking make in place.
"""

import math
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from hmar.data.evidence import Evidence
from hmar.data.histories import Histories
from hmar.layers.behavior_encoder import BehaviorEncoder
from hmar.layers.dropout import Dropout
from hmar.layers.grouped import BehaviorGroups
from hmar.layers.kernels import choose
from hmar.layers.permute import permute
from hmar.layers.positions import LearnedPositions
from hmar.layers.segments import Segments
from hmar.layers.self_attention import SelfAttention
from hmar.models.base import CandidateCounts, Encoder, TrainingBatch, Vocabulary
from hmar.settings import Section

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
AGES = (_MINUTE, 10 * _MINUTE, _HOUR, 6 * _HOUR, *(days * _DAY for days in (1, 3, 7, 30, 90, 180, 365)))
"""Where the age buckets 1, 2, ... begin, seconds; about evenly spaced on a logarithmic scale."""
AGE_BUCKETS = len(AGES) + 1
EVENT_BUCKETS = 12
"""floor log2 of how many events ago, the last bucket for all from 2048 on."""


class HMARPlusConfig(Section):
    """Every ingredient is a switch; off they leave a causal transformer over items and their order, as SASRec is, with
    pre-norm, GELU and a wider feed-forward net."""

    d: int = Field(64, ge=1)
    """Width of items and states."""
    heads: int = Field(2, ge=1)
    blocks: int = Field(2, ge=1)
    dropout: float = Field(0.3, ge=0, lt=1)
    block: Literal["sas", "gated"] = "sas"
    """Attention as it is, or multiplied by a gate (step 3)."""
    behavior: bool = True
    """Whether an event's behavior is an input, A."""
    gaps: bool = True
    """Whether the time since the event before is an input, D."""
    behavior_encoder: bool = False
    """Whether step 2 is there."""
    asked: bool = True
    """Whether the query knows the behavior asked about (step 4); if not, it is the state."""
    now: bool = False
    """Whether the query knows how long ago the newest event was, S."""
    evidence: bool = True
    """Whether the items of a user's past are candidates with evidence (step 6)."""
    consumed: Literal["learned", "left_out"] = "learned"
    """Items that the user has used up, where items do not recur: compared with the true item in training, so that
    evidence learns that they do not come again; or left out there, as they are in rankings."""
    bias: bool = True
    """Whether items have a bias that starts from their popularity (step 5)."""
    auxiliary: float = Field(0.3, ge=0)
    """Weight of a positive term whose behavior is not the target, which weighs 1 (HMAR's alpha)."""
    positions: int = Field(200, ge=1)
    """Size of the position table: the longest history that can be read; at least the training's max_length."""

    @model_validator(mode="after")
    def _sound(self) -> "HMARPlusConfig":
        if self.d % self.heads:
            raise ValueError(f"d must be a multiple of heads, and {self.d} is not one of {self.heads}")
        if self.consumed == "left_out" and not self.evidence:
            raise ValueError("consumed: left_out needs evidence, which knows what was used up; set evidence")
        if self.now and not self.asked:
            raise ValueError("now: the query has no place for it without asked; set asked, or leave now out")
        return self


class HMARPlus(Encoder):
    """See the module."""

    Config = HMARPlusConfig
    config: HMARPlusConfig
    weights: Tensor
    consuming: Tensor
    age_edges: Tensor
    event_edges: Tensor

    def __init__(self, config: HMARPlusConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        d, behaviors = config.d, len(vocabulary.behaviors)
        self.uses_recency = config.evidence
        weights = torch.full((behaviors,), config.auxiliary)
        weights[vocabulary.target] = 1.0
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("consuming", torch.tensor(vocabulary.consuming), persistent=False)
        self.register_buffer("age_edges", torch.tensor(AGES) * 1_000_000, persistent=False)
        self.register_buffer("event_edges", 2 ** torch.arange(1, EVENT_BUCKETS), persistent=False)

        self.items = _table(vocabulary.items, d)
        self.positions = LearnedPositions(config.positions, d)
        self.behavior = _table(behaviors, d) if config.behavior else None
        # One more for a first event, which has none before it.
        self.gap = _table(AGE_BUCKETS + 1, d) if config.gaps else None
        self.dropout = Dropout(config.dropout)
        self.behavior_block = None
        if config.behavior_encoder:
            self.behavior_block = BehaviorEncoder(behaviors, d, config.heads, config.dropout)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(d)
        self.asking = _Asking(config, behaviors) if config.asked else None
        self.evidence = None
        if config.evidence:
            self.evidence = nn.Linear(d, 1 + 2 * behaviors + EVENT_BUCKETS + AGE_BUCKETS)
            nn.init.zeros_(self.evidence.weight)
            nn.init.zeros_(self.evidence.bias)
        self.bias = nn.Parameter(torch.zeros(vocabulary.items)) if config.bias else None
        self.popular = nn.Parameter(torch.tensor(0.5)) if config.bias else None

    def plan(self, histories: Histories, device: torch.device, dtype: torch.dtype) -> None:
        self.positions.plan(histories)
        kernel = choose(device, dtype, self.config.d // self.config.heads)
        if self.behavior_block is not None:
            BehaviorGroups.of(histories, len(self.vocabulary.behaviors)).segments.form(kernel)
        Segments.of_rows(histories).form(kernel)

    def encode(self, histories: Histories) -> Tensor:
        x_TD = math.sqrt(self.config.d) * self.items(histories.item) + self.positions(histories)
        if self.behavior is not None:
            x_TD = x_TD + self.behavior(histories.behavior)
        if self.gap is not None:
            gaps = histories.time.diff(prepend=histories.time[:1])
            x_TD = x_TD + self.gap(torch.where(histories.position == 0, AGE_BUCKETS, self._age(gaps)))
        x_TD = self.dropout(x_TD)
        if self.behavior_block is not None:
            groups = BehaviorGroups.of(histories, len(self.vocabulary.behaviors))
            grouped_TD = self.behavior_block(permute(x_TD, groups.order, groups.place), groups)
            x_TD = x_TD + permute(grouped_TD, groups.place, groups.order)
        segments = Segments.of_rows(histories)
        for block in self.blocks:
            x_TD = block(x_TD, segments)
        states_TD: Tensor = self.norm(x_TD)
        return states_TD

    def query(self, states: Tensor, asked: Tensor, since: Tensor | None) -> Tensor:
        """[N, D], and one column of ones for the bias of items."""
        if self.asking is not None:
            waited = None
            if self.config.now:
                assert since is not None, "a query about now needs the time of asking"
                waited = self._age(since)
            states = states + self.asking(states, asked, waited)
        return states if self.bias is None else nn.functional.pad(states, (0, 1), value=1.0)

    def item_vectors(self, item: Tensor, hbi: Tensor | None) -> Tensor:
        vectors: Tensor = self.items(item)
        if self.bias is None or self.popular is None:
            return vectors
        bias_V = self.bias + self.popular * self.popularity.log1p()
        return torch.cat([vectors, bias_V[item][..., None].to(vectors.dtype)], dim=-1)

    def evidence_weights(self, queries: Tensor) -> Tensor:
        assert self.evidence is not None
        weights: Tensor = self.evidence(queries[..., : self.config.d])
        return weights

    def features(self, evidence: Evidence) -> Tensor:
        """phi of step 6, [..., 1 + 2 R + EVENT_BUCKETS + AGE_BUCKETS]."""
        assert evidence.behavior is not None, "evidence without recency"
        assert evidence.events is not None
        assert evidence.age is not None
        *cells, behaviors = evidence.counts.shape
        had = (evidence.events > 0).to(evidence.counts.dtype)[..., None]
        phi = evidence.counts.new_zeros(*cells, 1 + 2 * behaviors + EVENT_BUCKETS + AGE_BUCKETS)
        phi[..., :1] = had
        phi[..., 1 : 1 + behaviors] = evidence.counts.log1p()
        place = 1 + behaviors
        events = torch.bucketize(evidence.events, self.event_edges, right=True)
        for value, size in (
            (evidence.behavior, behaviors),
            (events, EVENT_BUCKETS),
            (self._age(evidence.age), AGE_BUCKETS),
        ):
            phi.scatter_(-1, place + value[..., None], had)
            place += size
        return phi

    def feature_names(self) -> tuple[str, ...]:
        often = (f"how often: {name}" for name in self.vocabulary.behaviors)
        last = (f"last: {name}" for name in self.vocabulary.behaviors)
        when = ("how many events ago",) * EVENT_BUCKETS + ("how long ago",) * AGE_BUCKETS
        return ("seen before", *often, *last, *when)

    def terms(self, history: Histories, seen: CandidateCounts, items: Tensor) -> dict[str, Tensor]:
        found = super().terms(history, seen, items)
        if found and self.bias is not None:
            bias_1N = self.item_vectors(items, None)[..., -1]
            found |= {"item": found["item"] - bias_1N, "bias": bias_1N}
        return found

    def left_out(self, evidence: Evidence) -> Tensor | None:
        if self.config.consumed == "learned" or self.vocabulary.repeats:
            return None
        return ((evidence.counts > 0) & self.consuming).any(-1)

    def position_weights(self, batch: TrainingBatch) -> Tensor | None:
        return self.weights[batch.next_behavior]

    def _age(self, microseconds: Tensor) -> Tensor:
        """The age bucket, int64."""
        return torch.bucketize(microseconds, self.age_edges, right=True)


class _Asking(nn.Module):
    """W_4 GELU( W_3 [ h ; Q[b] + S[since] ] + b_3 ) + b_4, which starts near 0."""

    def __init__(self, config: HMARPlusConfig, behaviors: int) -> None:
        super().__init__()
        self.asked = _table(behaviors, config.d)
        self.since = _table(AGE_BUCKETS, config.d) if config.now else None
        self.inner = nn.Linear(2 * config.d, 2 * config.d)
        self.outer = nn.Linear(2 * config.d, config.d)
        # Not at 0 itself, where nothing would reach what is before it.
        nn.init.normal_(self.outer.weight, std=0.002)
        nn.init.zeros_(self.outer.bias)

    def forward(self, states_ND: Tensor, asked: Tensor, waited: Tensor | None) -> Tensor:
        question_ND = self.asked(asked)
        if self.since is not None:
            question_ND = question_ND + self.since(waited)
        added_ND: Tensor = self.outer(gelu(self.inner(torch.cat([states_ND, question_ND], dim=-1))))
        return added_ND


class _Block(nn.Module):
    """One of step 3."""

    def __init__(self, config: HMARPlusConfig) -> None:
        super().__init__()
        d = config.d
        self.attention_norm = nn.LayerNorm(d)
        self.attention = SelfAttention(d, config.heads)
        self.gated = config.block == "gated"
        if self.gated:
            self.gate, self.gate_norm, self.project = nn.Linear(d, d), nn.LayerNorm(d), nn.Linear(d, d)
        self.feed_forward_norm = nn.LayerNorm(d)
        self.inner = nn.Linear(d, 2 * d)
        self.outer = nn.Linear(2 * d, d)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_TD: Tensor, segments: Segments) -> Tensor:
        y_TD = self.attention_norm(x_TD)
        attended_TD = self.attention(y_TD, segments)
        if self.gated:
            attended_TD = self.project(self.gate_norm(attended_TD) * silu(self.gate(y_TD)))
        x_TD = x_TD + self.dropout(attended_TD)
        out_TD: Tensor = x_TD + self.dropout(self.outer(gelu(self.inner(self.feed_forward_norm(x_TD)))))
        return out_TD


def _table(rows: int, d: int) -> nn.Embedding:
    table = nn.Embedding(rows, d)
    nn.init.normal_(table.weight, std=0.02)
    return table
