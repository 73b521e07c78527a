"""DFN: deep feedback network (Xie et al., IJCAI 2020).

A history falls into three sequences by what its events say of their item: yes (C, the paper's clicks), no (D, its
dislikes), neither (U, its unclicked impressions). With E the item table, A and D learned vectors of behaviors and time
buckets, q = E[j]:

    x_t = Drop( E[v_t] + A[b_t] + D[bucket_t] )
    f_s = mean of a transformer over {q} + {x_t : t in s},  s = C, D, U                     (internal)
    f_us = sum_{t in U} softmax_t( a(f_s, x_t) / sqrt(d) ) x_t,  s = C, D                   (external)
    z = w . [ FM ; deep ] of the fields (q, f_C, f_D, f_U, f_UC, f_UD, context)
        + c_j + sum_s w_s log(1 + n_sj) + w[b_n] + w'[bucket_n]                             (wide)

a is a net on [x; f; x - f; x * f]; FM sums the elementwise products of all pairs of fields, deep is a net on all of
them; n_sj counts the candidate's events in sequence s; the context is behavior b_n and time bucket of the newest event,
two fields. The transformers have weights of their own. An empty sequence leaves {q}, and a zero vector as f_us: any of
the three may be missing in a history or in a log.

f_s depends on the candidate, yet a history is encoded once: see :mod:`hmar.layers.candidate_transformer`. What is left
per pair of an event and a candidate are a gate and the first layer of a feed-forward net, and the scorer a.

Where we deviate: the paper's fields are 47 features of its users, items and context, ours are what a log has; its
position vectors are time buckets and behaviors, the same inputs as other rankers'; its 64 dimensions and 4 heads are
smaller in presets. It weighs click : unclick : dislike as 1 : 1 : 10 in the loss, which is the switch ``dislike``: off,
for equal terms with other rankers. Heads are scaled by the width of a head, and f_s is the mean, as the paper has it,
where its code divides by the whole width and sums. The scorer's layers are PReLU, as DIN's here.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from hmar.data.histories import Histories
from hmar.data.impressions import ImpressionBatch
from hmar.layers.attention_weights import Attention
from hmar.layers.candidate_transformer import CandidateTransformer, EncodedEvents
from hmar.layers.dropout import Dropout
from hmar.layers.event_inputs import BUCKETS, EventInputs, time_buckets
from hmar.layers.feedback_parts import SAID, FeedbackPart
from hmar.layers.field_interaction import FieldInteraction
from hmar.layers.target_attention import Keys, TargetAttention
from hmar.models.base import CandidateCounts, Vocabulary
from hmar.models.ranker import Ranker, RankerLoss
from hmar.settings import Section, Widths


class DFNConfig(Section):
    """The paper's parts, each one a switch."""

    d: int = Field(32, ge=1)
    """Width of items, events and fields."""
    heads: int = Field(2, ge=1)
    """Of the internal attention."""
    inner: int = Field(4, ge=1)
    """Width of the transformers' feed-forward nets, in multiples of d."""
    attention: Widths = (32,)
    """Widths of the layers of the external attention's scorer."""
    hidden: Widths = (32, 16)
    """Widths of the layers of deep."""
    external: bool = True
    """Whether what was liked and disliked attends to what was neither."""
    wide: bool = True
    fm: bool = True
    deep: bool = True
    behavior: bool = True
    """Whether the behavior of an event is an input."""
    time: bool = True
    """Whether the time since an event is an input."""
    dropout: float = Field(0.1, ge=0, lt=1)
    dislike: float = Field(1.0, ge=1)
    """Weight of a disliked candidate's log loss; 10 in the paper."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.d % self.heads:
            raise ValueError(f"heads ({self.heads}) has to divide d ({self.d})")
        if not (self.fm or self.deep):
            raise ValueError("fm or deep has to be on: the wide part alone sees no history")
        return self


@dataclass(frozen=True)
class _Encoded:
    """The three sequences' events, the keys of U for the questions of C and of D, and the context's codes."""

    events: tuple[EncodedEvents, ...]
    keys: tuple[Keys, ...]
    context: tuple[Tensor, ...]


class DFN(Ranker):
    """See the module."""

    Config = DFNConfig
    config: DFNConfig
    pairs_at_once = 2**13

    def __init__(self, config: DFNConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        behaviors = len(vocabulary.behaviors)
        self.items = nn.Embedding(vocabulary.items, config.d)
        nn.init.normal_(self.items.weight, std=0.1)
        self.inputs = EventInputs(config.d, behaviors, behavior=config.behavior, time=config.time, std=0.1)
        self.dropout = Dropout(config.dropout)
        self.internal = nn.ModuleList(
            CandidateTransformer(config.d, config.heads, config.inner * config.d) for _ in SAID
        )
        self.external = nn.ModuleList(TargetAttention(config.d, config.attention) for _ in range(2 * config.external))
        sizes = [behaviors] * config.behavior + [BUCKETS] * config.time
        self.context = nn.ModuleList(nn.Embedding(size, config.d) for size in sizes)
        for weight in self.context.parameters():
            nn.init.normal_(weight, std=0.1)
        fields = 1 + len(self.internal) + len(self.external) + len(self.context)
        self.fields = FieldInteraction(config.d, fields, config.hidden, fm=config.fm, deep=config.deep)
        self.out = nn.Linear(self.fields.width, 1, bias=False)
        self.wide = _Wide(vocabulary.items, sizes) if config.wide else None

    def plan(self, histories: Histories, device: torch.device, dtype: torch.dtype) -> None:
        self._parts(histories)

    def encode(self, histories: Histories) -> _Encoded:
        x_TD = self.dropout(self.inputs(self.items(histories.item), histories))
        parts = self._parts(histories)
        events = []
        for internal, part in zip(self.internal, parts, strict=True):
            assert isinstance(internal, CandidateTransformer)
            events.append(internal.events(x_TD[part.token], part.histories))
        keys = []
        for external in self.external:
            assert isinstance(external, TargetAttention)
            keys.append(external.keys(x_TD[parts[2].token]))
        return _Encoded(tuple(events), tuple(keys), self._context(histories))

    def interact(self, encoded: _Encoded, histories: Histories, items: Tensor) -> Tensor:
        parts = self._parts(histories)
        q = self.items(items)
        fields = [q]
        for internal, events, part in zip(self.internal, encoded.events, parts, strict=True):
            fields.append(internal(events, q, part.histories))
        asking = zip(self.external, encoded.keys, fields[1:3], strict=False)
        fields += [external(keys, f_BND, parts[2].histories) for external, keys, f_BND in asking]
        fields += [table(code_B)[:, None] for table, code_B in zip(self.context, encoded.context, strict=True)]
        logits_BN: Tensor = self.out(self.fields(fields))[..., 0]
        if self.wide is not None:
            logits_BN = logits_BN + self.wide(items, encoded.context, [part.histories for part in parts])
        return logits_BN

    def training_loss(self, batch: ImpressionBatch, loss: RankerLoss) -> Tensor:
        logits_BN = self.interact(self.encode(batch.histories), batch.histories, batch.items)
        total = loss(logits_BN, batch)
        if self.config.dislike == 1:
            return total
        disliked_BN = batch.real & ~batch.sampled & (batch.labels == 0)
        further = (softplus(logits_BN) * disliked_BN).sum() / batch.real.sum().clamp(min=1)
        return total + (self.config.dislike - 1) * further

    def looks_at(self, history: Histories, seen: CandidateCounts, items: Tensor) -> dict[str, Attention]:
        """As in the base class; each layer looks at one of the three sequences and gives the other events 0."""
        parts = self._parts(history)
        found = {}
        for name, one in super().looks_at(history, seen, items).items():
            layer, number = name.split(".")
            token = parts[int(number) if layer == "internal" else 2].token
            weights = one.weights.new_zeros(*one.weights.shape[:2], len(history.item))
            found[name] = replace(one, weights=weights.index_copy(2, token, one.weights[..., : len(token)]))
        return found

    def _parts(self, histories: Histories) -> tuple[FeedbackPart, ...]:
        return FeedbackPart.of(histories, self.vocabulary.feedback or (0,) * len(self.vocabulary.behaviors))

    def _context(self, histories: Histories) -> tuple[Tensor, ...]:
        """Behavior and time bucket of every row's newest event, int64 [B] each, 0 where there is none."""
        codes = [histories.behavior] * self.config.behavior + [time_buckets(histories)] * self.config.time
        filled_B = histories.lengths > 0
        return tuple(torch.where(filled_B, pad(code_T, (0, 1))[histories.offsets[1:] - 1], 0) for code_T in codes)


class _Wide(nn.Module):
    """Weights of what needs no vector: the candidate, how often it was liked, disliked and neither, the context."""

    def __init__(self, items: int, context: list[int]) -> None:
        super().__init__()
        self.bias = nn.Embedding(items, 1)
        self.context = nn.ModuleList(nn.Embedding(size, 1) for size in context)
        for table in (self.bias, *self.context):
            nn.init.zeros_(table.weight)
        self.counts = nn.Parameter(torch.zeros(len(SAID)))

    def forward(self, items: Tensor, context: tuple[Tensor, ...], parts: list[Histories]) -> Tensor:
        """[B, N]."""
        z_BN: Tensor = self.bias(items)[..., 0]
        for weight, part in zip(self.counts, parts, strict=True):
            offered = items if len(items) == 1 else items[part.row]
            same_TN = (part.item[:, None] == offered).to(weight.dtype)
            count_BN = weight.new_zeros(len(part), items.shape[1]).index_add(0, part.row, same_TN)
            z_BN = z_BN + weight * count_BN.log1p()
        for table, code_B in zip(self.context, context, strict=True):
            z_BN = z_BN + table(code_B)
        return z_BN
