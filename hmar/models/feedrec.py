"""FeedRec: news feed recommendation with various user feedbacks (Wu et al., WWW 2022, arXiv 2102.04903).

Every behavior is a type of feedback. What says yes or no is strong, what says neither (a view, a tag) is weak; a
snapshot says which is which. With E the item table, A and D learned vectors of behaviors and time buckets:

1. Inputs         x_t = Drop( E[v_t] + A[b_t] + D[bucket_t] )
2. Heterogeneous  a transformer layer over all events, so that feedbacks of all types see each other
3. Homogeneous    a transformer layer of each type's own over the events of that type -> h_t
4. Strong         p = sum_t softmax_t( <a, h_t> / sqrt(d) ) h_t over the events that say yes; n likewise, with another
                  a, over those that say no
5. Strong to weak p' = sum_t softmax_t( <W p + c, h_t> / sqrt(d) ) h_t over the weak events: what of them was liked, to
                  judge by what was said yes to; n' likewise of n, with another W and c
6. Logit          z_j = <u, E[j]> + beta_j,  u = m_1 * p + m_2 * p' + m_3 * n + m_4 * n',  beta an item's bias

The weights m, vectors of their own, begin at 1 for p and p', at -1 for n and n'. The loss is

    L = log loss of z + gamma mean( |cos(p, n)| + |cos(p', n')| ) + beta mean of the further tasks.

The second term keeps apart what was liked and what was disliked. The tasks are the other feedbacks, one for each
behavior: which behaviors were done with the item of the history's newest event, by a logit as in 6 with weights m and a
bias of the task's own, of the interests that the events strictly before it give. (An impression itself says yes or no
and nothing else.) A type may be missing in a history or in a log: what nothing is known of is zero, and cos is 0.

The candidate enters by a product only, so a history is encoded once for any number of candidates.

Where we deviate: the paper predicts finishing and dwell time beside the click, our logs know behaviors. It has a vector
per strong type, we have one per sign, and time buckets where it has positions and dwell times; news texts are items.
"""

from typing import NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity

from hmar.data.histories import Histories
from hmar.data.impressions import ImpressionBatch
from hmar.layers.attention_weights import Attention
from hmar.layers.dropout import Dropout
from hmar.layers.event_inputs import EventInputs
from hmar.layers.feedback_parts import FeedbackPart
from hmar.layers.grid import Grid
from hmar.layers.newest_moment import NewestMoment
from hmar.layers.pooling import AskedPooling
from hmar.layers.typed_transformer import TypedTransformer
from hmar.models.base import CandidateCounts, Vocabulary
from hmar.models.ranker import Ranker, per_history
from hmar.settings import Section


class FeedRecConfig(Section):
    """The paper's parts, each one a switch."""

    d: int = Field(32, ge=1)
    """Width of items, events and interests."""
    heads: int = Field(2, ge=1)
    """Of the transformers."""
    heterogeneous: bool = True
    """Whether events of all types see each other."""
    homogeneous: bool = True
    """Whether events of a type see each other through weights of their type's own."""
    strong_to_weak: bool = True
    """Whether strong feedback asks what is taken of weak feedback; if not, a learned question does."""
    orthogonality: float = Field(0.1, ge=0)
    """gamma, weight of the term that keeps interests apart; 0 is without it."""
    multi_task: float = Field(0.2, ge=0)
    """beta, weight of the other feedbacks' tasks; 0 is without them."""
    behavior: bool = True
    """Whether the behavior of an event is an input."""
    time: bool = True
    """Whether the time since an event is an input."""
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.d % self.heads:
            raise ValueError(f"heads ({self.heads}) has to divide d ({self.d})")
        return self


class Interests(NamedTuple):
    """p, p', n and n', [B, D] each."""

    liked: Tensor
    weak_liked: Tensor
    disliked: Tensor
    weak_disliked: Tensor


class FeedRec(Ranker):
    """See the module."""

    Config = FeedRecConfig
    config: FeedRecConfig
    pairs_at_once = 2**20

    def __init__(self, config: FeedRecConfig, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        d, behaviors = config.d, len(vocabulary.behaviors)
        self.items = nn.Embedding(vocabulary.items, d)
        nn.init.normal_(self.items.weight, std=0.1)
        self.bias = nn.Embedding(vocabulary.items, 1)
        nn.init.zeros_(self.bias.weight)
        self.inputs = EventInputs(d, behaviors, behavior=config.behavior, time=config.time, std=0.1)
        self.dropout = Dropout(config.dropout)
        types = [1] * config.heterogeneous + [behaviors] * config.homogeneous
        self.layers = nn.ModuleList(TypedTransformer(each, d, config.heads, config.dropout) for each in types)
        self.liked_events, self.disliked_events = AskedPooling(d, asked=False), AskedPooling(d, asked=False)
        self.weak_liked_events = AskedPooling(d, asked=config.strong_to_weak)
        self.weak_disliked_events = AskedPooling(d, asked=config.strong_to_weak)
        signs = torch.tensor([1.0, 1.0, -1.0, -1.0])[:, None].repeat(1, d)
        self.mixed = nn.Parameter(signs)
        tasks = behaviors if config.multi_task else 0
        self.task_mixed = nn.Parameter(signs.repeat(tasks, 1, 1)) if tasks else None
        self.task_bias = nn.Parameter(torch.zeros(tasks)) if tasks else None

    def plan(self, histories: Histories, device: torch.device, dtype: torch.dtype) -> None:
        self._plan(histories)
        if self.config.multi_task:
            self._plan(NewestMoment.of(histories, len(self.vocabulary.behaviors)).earlier)

    def encode(self, histories: Histories) -> Interests:
        h_TD = self._events(histories)
        yes, no, neither = self._parts(histories)
        p = self.liked_events(h_TD[yes.token], yes.histories)
        n = self.disliked_events(h_TD[no.token], no.histories)
        weak_SD = h_TD[neither.token]
        return Interests(
            p,
            self.weak_liked_events(weak_SD, neither.histories, p),
            n,
            self.weak_disliked_events(weak_SD, neither.histories, n),
        )

    def interact(self, encoded: Interests, histories: Histories, items: Tensor) -> Tensor:
        u_BD = (torch.stack(encoded, dim=1) * self.mixed).sum(1)
        q = self.items(items)
        z_BN = u_BD @ q[0].T if len(q) == 1 else (q @ u_BD[:, :, None])[..., 0]
        logits: Tensor = z_BN + self.bias(items)[..., 0]
        return logits

    def auxiliary_loss(self, encoded: Interests, batch: ImpressionBatch) -> Tensor | None:
        terms_B = []
        if self.config.orthogonality:
            apart_B = cosine_similarity(encoded.liked, encoded.disliked).abs()
            apart_B = apart_B + cosine_similarity(encoded.weak_liked, encoded.weak_disliked).abs()
            terms_B.append(self.config.orthogonality * apart_B)
        if self.config.multi_task:
            terms_B.append(self.config.multi_task * self.task_losses(batch.histories))
        return per_history(torch.stack(terms_B).sum(0), batch) if terms_B else None

    def task_losses(self, histories: Histories) -> Tensor:
        """The mean log loss of the other feedbacks' tasks for each history, [B]; 0 where nothing precedes its newest
        moment."""
        assert self.task_mixed is not None
        newest = NewestMoment.of(histories, len(self.vocabulary.behaviors))
        interests_B4D = torch.stack(self.encode(newest.earlier), dim=1)
        u_BRD = torch.einsum("bkd,rkd->brd", interests_B4D, self.task_mixed)
        z_BR = (u_BRD @ self.items(newest.item)[..., None])[..., 0] + self.task_bias
        losses_B = binary_cross_entropy_with_logits(z_BR, newest.done.to(z_BR.dtype), reduction="none").mean(1)
        return losses_B.masked_fill(newest.earlier.lengths == 0, 0.0)

    def looks_at(self, history: Histories, seen: CandidateCounts, items: Tensor) -> dict[str, Attention]:
        """The events that each of the four interests is made of, the same for all candidates."""
        with torch.inference_mode():
            h_TD = self._events(history)
            yes, no, neither = self._parts(history)
            strong = self.encode(history)
            asked = {
                "liked": (self.liked_events, yes, None),
                "weak_liked": (self.weak_liked_events, neither, strong.liked),
                "disliked": (self.disliked_events, no, None),
                "weak_disliked": (self.weak_disliked_events, neither, strong.disliked),
            }
            found = {}
            for name, (pooling, part, question) in asked.items():
                if len(part.token):
                    weights_L = h_TD.new_zeros(len(h_TD))
                    weights_L[part.token] = pooling.weights(h_TD[part.token], part.histories, question)[0]
                    every = weights_L.expand(1, items.shape[1], -1)
                    found[f"{name}_events"] = Attention(every, ("interest",), "candidates")
        return found

    def _events(self, histories: Histories) -> Tensor:
        """Steps 1 to 3, h [T, D]."""
        h_TD: Tensor = self.dropout(self.inputs(self.items(histories.item), histories))
        for layer in self.layers:
            h_TD = layer(h_TD, histories)
        return h_TD

    def _parts(self, histories: Histories) -> tuple[FeedbackPart, FeedbackPart, FeedbackPart]:
        return FeedbackPart.of(histories, self.vocabulary.feedback or (0,) * len(self.vocabulary.behaviors))

    def _plan(self, histories: Histories) -> None:
        for layer in self.layers:
            assert isinstance(layer, TypedTransformer)
            layer.plan(histories)
        for part in self._parts(histories):
            Grid.of(part.histories)
