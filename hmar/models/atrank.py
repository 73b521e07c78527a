"""ATRank: attention-based user behavior modeling (Zhou et al., AAAI 2018, arXiv 1711.06632).

With E the item table, g(t) the group of event t's behavior, A and D learned vectors of behaviors and time buckets, K
latent semantic spaces:

1. Group       u_t = Drop( W_g(t) [ E[v_t]; A[b_t]; D[bucket_t] ] + b_g(t) ),  a projection of each group's own
2. Spaces      attention inside each of K spaces, ReLU projections of u, over the *whole* history, without a causal mask
               because a history ends before the moment of asking; residual, LayerNorm, a net d -> d/4 -> d, residual,
               LayerNorm: :class:`hmar.layers.latent_spaces.SpaceAttention`; repeated ``blocks`` times -> y_t
3. Candidate   u_j = attention over y in K spaces, asked by h_j = ReLU( W_h E[j] + r_a ), a being the task, the behavior
               asked about: :class:`hmar.layers.latent_spaces.CandidateAttention` (the paper's vanilla attention)
4. Logit       dot: <u_j, E[j]> + c_ja;  mlp: net [u_j; E[j]; u_j * E[j]] + c_ja,  c an item's bias for the task

The paper's score is bilinear, the published code's a scaled dot product: ``score``. A single task asks about the
target. The **all-in-one** model learns several ``tasks``: its body is shared, a task has its own r_a and c_a, and
training takes one batch of one task after the other (:mod:`hmar.data.task_turns`).

Our groups are groups of behaviors, all of the same items; the paper's also have entities of their own (coupons,
queries). Where we deviate: the published code adds the candidate itself to u_j (a residual) and has a net after the
vanilla attention, so that an item's vector scores against itself; neither is in the paper's equations, nor here. The
time bucket follows from days, a fraction included, in thirteen buckets, the published code's from whole days. Objects
have no features but their id: the category, which the paper's events of Amazon and Taobao have beside it, is left out
here as it is in every model, so that all have equal inputs.
"""

from typing import Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from hmar.data.histories import Histories
from hmar.errors import SettingsError
from hmar.layers.dropout import Dropout
from hmar.layers.grid import Grid
from hmar.layers.group_inputs import GroupInputs
from hmar.layers.latent_spaces import CandidateAttention, Score, SpaceAttention
from hmar.layers.segments import Segments
from hmar.layers.user_head import HeadKind, UserHead
from hmar.layers.whole_attention import FORM
from hmar.models.base import Vocabulary
from hmar.models.ranker import Ranker
from hmar.settings import Section, Widths, nearest


class ATRankConfig(Section):
    """The paper's names where it has some."""

    d: int = Field(64, ge=1)
    """Width of items, events and users: all spaces together."""
    spaces: int = Field(4, ge=1)
    """K, latent semantic spaces."""
    blocks: int = Field(1, ge=1)
    """Times that step 2 is done."""
    score: Score = "bilinear"
    """How attention compares: a learned product (the paper's), or a scaled dot product (its code's)."""
    head: HeadKind = "dot"
    """How user and candidate make a logit: their product, or a net on both."""
    hidden: Widths = (64,)
    """Widths of the layers of head mlp."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Behaviors that share a projection, [["view", "fav"], ["buy"]]; those in no group have one each."""
    behavior: bool = True
    """Whether the behavior of an event (the paper's action type) is an input; if not, all events are one group."""
    time: bool = True
    """Whether the time bucket of an event is an input."""
    tasks: tuple[str, ...] = ()
    """All-in-one: the behaviors that the model learns to be asked about (the snapshot has impressions of them by its
    setting impressions.tasks); the target alone if empty."""
    behaviors: Literal["all", "target"] | tuple[str, ...] = "all"
    """Which events are read: all, the target behavior's only, or those of the behaviors named."""
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _sound(self) -> "ATRankConfig":
        if self.d % self.spaces:
            raise ValueError(f"d must be a multiple of spaces, and {self.d} is not one of {self.spaces}")
        named = [name for group in self.groups for name in group]
        if len(set(named)) != len(named):
            raise ValueError("groups: a behavior stands twice")
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError("tasks: a behavior stands twice")
        if self.groups and not self.behavior:
            raise ValueError("groups: without behavior all events are one group; leave groups out")
        return self


class EncodedHistories(NamedTuple):
    """What candidates ask: keys [B, K, d/K, L] and values [B, K, L, d/K]."""

    keys: Tensor
    values: Tensor


class ATRank(Ranker):
    """See the module."""

    Config = ATRankConfig
    config: ATRankConfig

    def __init__(self, config: ATRankConfig, vocabulary: Vocabulary) -> None:
        """
        Raises:
            SettingsError: groups, tasks or behaviors name a behavior that the vocabulary has not.
        """
        super().__init__(config, vocabulary)
        d = config.d
        self.reads = _read(config.behaviors, vocabulary)
        self.tasks = _known(config.tasks, "config.tasks", vocabulary)
        self.items = nn.Embedding(vocabulary.items, d)
        nn.init.normal_(self.items.weight, std=0.1)
        self.inputs = GroupInputs(d, _groups(config, vocabulary), behavior=config.behavior, time=config.time)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            SpaceAttention(d, config.spaces, config.score, config.dropout) for _ in range(config.blocks)
        )
        self.query = nn.Linear(d, d, bias=False)
        self.task = nn.Embedding(len(vocabulary.behaviors), d)
        nn.init.zeros_(self.task.weight)
        self.attention = CandidateAttention(d, config.spaces, config.score)
        self.head = UserHead(vocabulary.items * len(vocabulary.behaviors), d, config.head, config.hidden)

    def plan(self, histories: Histories, device: torch.device, dtype: torch.dtype) -> None:
        Grid.of(histories)
        Segments.of_rows(histories).form(FORM)
        self.inputs.plan(histories)

    def events(self, histories: Histories) -> Tensor:
        """Step 1, u [T, D]."""
        u_TD: Tensor = self.dropout(self.inputs(self.items(histories.item), histories))
        return u_TD

    def encode(self, histories: Histories) -> EncodedHistories:
        x_TD = self.events(histories)
        for block in self.blocks:
            x_TD = block(x_TD, histories)
        return EncodedHistories(*self.attention.keys(x_TD, histories))

    def interact(self, encoded: EncodedHistories, histories: Histories, items: Tensor) -> Tensor:
        e_BND = self.items(items)
        h_BND = (self.query(e_BND) + self.task(histories.asked)[:, None]).relu()
        u_BND = self.attention(encoded.keys, encoded.values, h_BND, histories)
        asked_BN = items * len(self.vocabulary.behaviors) + histories.asked[:, None]
        logits: Tensor = self.head(u_BND, e_BND, asked_BN)
        return logits


def _read(behaviors: str | tuple[str, ...], vocabulary: Vocabulary) -> tuple[str, ...] | None:
    if behaviors == "all":
        return None
    if behaviors == "target":
        return (vocabulary.behaviors[vocabulary.target],)
    return _known(tuple(behaviors), "config.behaviors", vocabulary)


def _groups(config: ATRankConfig, vocabulary: Vocabulary) -> list[int]:
    """The group of each behavior, 0..G-1."""
    if not config.behavior:
        return [0] * len(vocabulary.behaviors)
    of = {
        name: place for place, group in enumerate(config.groups) for name in _known(group, "config.groups", vocabulary)
    }
    for code, name in enumerate(vocabulary.behaviors):
        of.setdefault(name, len(config.groups) + code)
    numbers = sorted(set(of.values()))
    return [numbers.index(of[name]) for name in vocabulary.behaviors]


def _known(names: tuple[str, ...], key: str, vocabulary: Vocabulary) -> tuple[str, ...]:
    for name in names:
        if name not in vocabulary.behaviors:
            raise SettingsError(f"{key}: unknown behavior {name!r}{nearest(name, list(vocabulary.behaviors))}")
    return names
