"""Rankers: models that see the candidate inside the network and score (history, candidate) pairs.

A history is encoded once for all its candidates: what does not depend on the candidate is in :meth:`Ranker.encode`,
what does is in :meth:`Ranker.interact`. Training is on labelled impressions (:mod:`hmar.data.impressions`).
"""

from abc import abstractmethod
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from hmar.data.histories import Histories
from hmar.data.impressions import ImpressionBatch
from hmar.layers.attention_weights import Attention, recorded
from hmar.models.base import CandidateCounts, Recommender, Vocabulary
from hmar.settings import Section


class RankerLoss(Protocol):
    """How well logits say what the labels say."""

    def __call__(self, logits_BN: Tensor, batch: ImpressionBatch) -> Tensor:
        """A scalar, the mean over the real candidates of the batch."""
        ...


class Ranker(Recommender):
    """Logits of candidates, given histories.

    A ranker reads histories and items; counts (HBI) are for encoders.
    """

    family = "ranker"
    tokens_at_once: ClassVar[int] = 2**9
    """Events of the histories that are encoded and scored together; one history at least."""
    pairs_at_once: ClassVar[int] = 2**15
    """(event, candidate) pairs of one pass, which bounds the memory of any number of candidates; a CPU is fastest with
    what its cache holds. On a GPU both are 64 times as many."""
    tasks: tuple[str, ...] = ()
    """The behaviors that the model learns to be asked about, one batch of one of them after the other; empty means the
    target alone."""
    said: Tensor

    def __init__(self, config: Section, vocabulary: Vocabulary) -> None:
        super().__init__(config, vocabulary)
        said = vocabulary.feedback or (0,) * len(vocabulary.behaviors)
        self.register_buffer("said", torch.tensor(said, dtype=torch.int8), persistent=False)

    @abstractmethod
    def encode(self, histories: Histories) -> Any:
        """What scoring needs of the histories, whoever the candidates are: a tensor or a value of the model's own."""

    @abstractmethod
    def interact(self, encoded: Any, histories: Histories, items: Tensor) -> Tensor:
        """Logits [B, N] of items int64 [B, N], or of items [1, N] that every row is asked about.

        Rows without a history have to give finite numbers, whatever they are: they are never used.

        Args:
            encoded: of these histories, by :meth:`encode`.
        """

    def auxiliary_loss(self, encoded: Any, batch: ImpressionBatch) -> Tensor | None:
        """A further loss term on the encoded histories (DIEN's next items), already weighted; None where there is none.

        It has to be a mean over the batch's real candidates (:func:`per_history` makes one of a term per history), so
        that a batch may be cut into parts.
        """
        return None

    def training_loss(self, batch: ImpressionBatch, loss: RankerLoss) -> Tensor:
        """What training minimizes, a scalar. A model whose terms need more than the logits overrides this."""
        encoded = self.encode(batch.histories)
        total = loss(self.interact(encoded, batch.histories, batch.items), batch)
        auxiliary = self.auxiliary_loss(encoded, batch)
        return total if auxiliary is None else total + auxiliary

    def plan(self, histories: Histories, device: torch.device, dtype: torch.dtype) -> None:
        """As :meth:`hmar.models.base.Encoder.plan`."""

    def score(self, histories: Histories, seen: CandidateCounts, items: Tensor) -> Tensor:
        return self._or_popularity(histories, self._logits(histories, items), self.popularity[items])

    def score_all(self, histories: Histories, seen: CandidateCounts) -> Tensor:
        catalog = torch.arange(self.vocabulary.items, device=self.popularity.device)[None]
        return self._or_popularity(histories, self._logits(histories, catalog), self.popularity)

    def looks_at(self, history: Histories, seen: CandidateCounts, items: Tensor) -> dict[str, Attention]:
        """As in the base class. All items in one pass, however many, so that a layer is called once."""
        if len(history.item) == 0:
            return {}
        return recorded(self, lambda: self.interact(self.encode(history), history, items))

    def liked(self, histories: Histories) -> Tensor:
        """y_t of every event, int64 [T]: 0 where it says no, else 1."""
        return (self.said[histories.behavior] >= 0).long()

    def _logits(self, histories: Histories, items: Tensor) -> Tensor:
        """:meth:`interact` in passes of bounded size, float32 [B, N]."""
        wider = 64 if self.popularity.is_cuda else 1
        offsets = histories.offsets.tolist()
        logits, start = [self.popularity.new_zeros(0, items.shape[1])], 0
        while start < len(histories):
            stop = start + 1
            while stop < len(histories) and offsets[stop + 1] - offsets[start] <= wider * self.tokens_at_once:
                stop += 1
            some = histories.rows(start, stop)
            encoded = self.encode(some)
            own = items if len(items) == 1 else items[start:stop]
            width = max(1, wider * self.pairs_at_once // max(len(some.item), stop - start))
            passes = [self.interact(encoded, some, columns) for columns in own.split(width, dim=1)]
            logits.append(torch.cat(passes, dim=1).to(self.popularity.dtype))
            start = stop
        return torch.cat(logits)


def per_history(values_B: Tensor, batch: ImpressionBatch) -> Tensor:
    """The mean over the batch's real candidates of a value that each history has for all of its own, a scalar; 0 where
    there are none."""
    candidates_B = batch.real.sum(1).to(values_B.dtype)
    return (values_B * candidates_B).sum() / candidates_B.sum().clamp(min=1)


def per_candidate(values_BN: Tensor, batch: ImpressionBatch) -> Tensor:
    """The mean over the batch's real candidates of a value that each has, a scalar; 0 where there are none."""
    return values_BN.masked_fill(~batch.real, 0.0).sum() / batch.real.sum().clamp(min=1)
