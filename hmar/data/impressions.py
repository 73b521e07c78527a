"""Labelled impressions as batches: moments of feedback, each with the history before it and all its candidates, so that
a history is gathered, and encoded, once for all of them.

Nothing here has hidden state: as in :mod:`hmar.data.batches`, a batch is a function of (seed, epoch, step).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmar.data.counting import PriorCounts
from hmar.data.histories import Histories, spans
from hmar.data.moving import moved
from hmar.data.order import Batches, Batching, Order
from hmar.data.snapshot import Impressions, Snapshot
from hmar.data.targets import Reading, histories_before
from hmar.errors import DataError

_ORDER, _STORED, _OTHERS = 0, 1, 2


@dataclass(frozen=True)
class ImpressionBatch:
    """B moments with up to N candidates each.

    Attributes:
        histories: what happened strictly before each moment, T tokens; ``now`` is the moment's time, ``asked`` the
            task: the target, or another behavior. A row of a training batch has one token at least.
        items: int64 [B, N], 0 where there is none. labels: float32 [B, N], 1 where the user said yes, else 0.
        real: bool [B, N], whether there is a candidate; a loss is a mean over these.
        sampled: bool [B, N], whether it was drawn: its label 0 says less than a dislike's.
        user: int64 [B], dense ids.
    """

    histories: Histories
    items: Tensor
    labels: Tensor
    real: Tensor
    sampled: Tensor
    user: Tensor

    def to(self, device: torch.device) -> "ImpressionBatch":
        return moved(self, device)

    def part(self, start: int, stop: int) -> "ImpressionBatch":
        """The moments start : stop; views of the tensors."""
        rows = slice(start, stop)
        return ImpressionBatch(
            self.histories.rows(start, stop),
            self.items[rows],
            self.labels[rows],
            self.real[rows],
            self.sampled[rows],
            self.user[rows],
        )


def pack_impressions(
    snapshot: Snapshot,
    impressions: Impressions,
    moments: NDArray[np.int64],
    max_length: int,
    behaviors: Sequence[str] | None = None,
    kept: NDArray[np.bool_] | None = None,
) -> ImpressionBatch:
    """The batch of chosen moments, given by their places 0..M-1 in ``impressions``.

    Args:
        max_length: the latest events of a history that are read. behaviors: of these only; None reads all.
        kept: bool, the candidates that are taken, for all those of the moments end to end; None takes all.
    """
    rows, offsets = spans(impressions.offsets[moments], impressions.offsets[moments + 1])
    row = np.repeat(np.arange(len(moments)), np.diff(offsets))
    if kept is not None:
        rows, row = rows[kept], row[kept]
    counts = np.bincount(row, minlength=len(moments))
    column = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (len(moments), int(counts.max(initial=0)))
    items, labels = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    real, sampled = np.zeros(shape, bool), np.zeros(shape, bool)
    items[row, column], labels[row, column] = impressions.item[rows], impressions.label[rows]
    real[row, column], sampled[row, column] = True, impressions.sampled[rows]
    user = impressions.user[moments]
    histories = histories_before(
        snapshot,
        user,
        impressions.history_end[moments],
        impressions.time[moments],
        impressions.asked,
        max_length,
        behaviors,
    )
    tensors = (torch.from_numpy(each) for each in (items, labels, real, sampled, user.astype(np.int64)))
    return ImpressionBatch(histories, *tensors)


class ImpressionData:
    """The training moments of one split, as batches.

    Moments whose history is empty are left out: without a history the answer is popularity, whatever a model learns.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        split: str,
        *,
        max_length: int,
        batch_size: int = 128,
        batch_tokens: int | None = None,
        batching: Batching = "shuffled",
        negatives: int = 1,
        in_batch: int = 0,
        seed: int = 0,
        behaviors: Sequence[str] | None = None,
        task: str = "",
    ) -> None:
        """
        Args:
            max_length: L, events of a history at most.
            batch_size, batch_tokens, batching: how moments make batches, see :class:`hmar.data.order.Batches`.
            negatives: out of the sampled negatives that are stored with a moment, so many per positive, chosen anew in
                every epoch; all where there are no more.
            in_batch: so many positives of the batch's other moments as further negatives of each moment with a
                positive, chosen anew in every epoch; those that the moment has itself are left out.
            behaviors: the events that the model reads; None means all.
            task: the behavior that is asked about; the target if empty.

        Raises:
            DataError: the snapshot has no labelled impressions, or training has none of one of the two labels.
        """
        self.snapshot, self.split = snapshot, split
        self.max_length, self.seed, self.behaviors = max_length, seed, behaviors
        self.negatives, self.in_batch = negatives, in_batch
        self.prior = PriorCounts(snapshot)
        self.impressions = snapshot.impressions(split, "training", task)
        first, end = snapshot.offsets[self.impressions.user], self.impressions.history_end
        lengths = np.minimum(Reading(snapshot, behaviors).count(first, end), max_length)
        self.moments = np.flatnonzero(lengths > 0)
        self._batches = Batches(lengths[self.moments].astype(np.int32), batch_size, batch_tokens, batching)
        chosen, _ = spans(self.impressions.offsets[self.moments], self.impressions.offsets[self.moments + 1])
        labels = self.impressions.label[chosen]
        for value, name, do in ((1, "positive", "a longer log"), (0, "negative", "snapshot.impressions.negative")):
            if not (labels == value).any() and not (value == 0 and in_batch):
                raise DataError(
                    f"{snapshot.path}, split {split}: no {name} impression with a history to train on; give {do}"
                )

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return self._batches.count

    @cached_property
    def tokens(self) -> int:
        """Candidates per epoch, but those that moments lend each other."""
        shown = self.impressions
        moment = np.repeat(np.arange(len(shown)), np.diff(shown.offsets))
        stored = np.bincount(moment, weights=shown.sampled, minlength=len(shown))
        positives = np.bincount(moment, weights=shown.label, minlength=len(shown))
        kept = np.diff(shown.offsets) - stored + np.minimum(stored, self.negatives * positives)
        return int(kept[self.moments].sum())

    def users(self, epoch: int, step: int) -> NDArray[np.int64]:
        """The users of one batch, dense ids, each once."""
        moments = self.moments[self._order(epoch).batch(step)]
        return np.unique(self.impressions.user[moments]).astype(np.int64)

    def batches(self, epoch: int, start: int = 0) -> Iterator[ImpressionBatch]:
        """The batches of an epoch from step ``start`` on."""
        order = self._order(epoch)
        for step in range(start, self.steps):
            yield self._batch(self.moments[order.batch(step)], epoch, step)

    def shares(self, epoch: int, start: int = 0, rank: int = 0, size: int = 1) -> Iterator[tuple[ImpressionBatch, int]]:
        """The share of one process out of ``size`` in each of them, and the candidates of the whole batch.

        Consecutive moments, cut where events and candidates, not moments, are shared equally.
        """
        for batch in self.batches(epoch, start):
            work = torch.cat([torch.zeros(1, dtype=torch.int64), (batch.histories.lengths + 1).cumsum(0)])
            cuts = torch.tensor([int(work[-1]) * one // size for one in (rank, rank + 1)])
            first, last = torch.searchsorted(work, cuts).tolist()
            yield batch if size == 1 else batch.part(first, last), int(batch.real.sum())

    def _batch(self, moments: NDArray[np.int64], epoch: int, step: int) -> ImpressionBatch:
        kept = self._kept(moments, self._generator(_STORED, epoch, step))
        batch = pack_impressions(self.snapshot, self.impressions, moments, self.max_length, self.behaviors, kept)
        return self._with_others(batch, self._generator(_OTHERS, epoch, step)) if self.in_batch else batch

    def _order(self, epoch: int) -> Order:
        return self._batches.order(self._generator(_ORDER, epoch, 0))

    def _generator(self, purpose: int, epoch: int, step: int) -> np.random.Generator:
        return np.random.Generator(
            np.random.Philox(np.random.SeedSequence(self.seed, spawn_key=(purpose, epoch, step)))
        )

    def _kept(self, moments: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.bool_]:
        """Which candidates of the moments, end to end, are in this epoch: all that were said something of, and of the
        sampled ones ``negatives`` per positive, those that chance puts first."""
        rows, offsets = spans(self.impressions.offsets[moments], self.impressions.offsets[moments + 1])
        row = np.repeat(np.arange(len(moments)), np.diff(offsets))
        kept = ~self.impressions.sampled[rows]
        positives = np.bincount(row, weights=self.impressions.label[rows], minlength=len(moments)).astype(np.int64)
        drawn = np.flatnonzero(~kept)
        drawn = drawn[np.lexsort((generator.random(len(drawn)), row[drawn]))]
        counts = np.bincount(row[drawn], minlength=len(moments))
        place = np.arange(len(drawn)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept[drawn[place < self.negatives * positives[row[drawn]]]] = True
        return kept

    def _with_others(self, batch: ImpressionBatch, generator: np.random.Generator) -> ImpressionBatch:
        said_yes = batch.real & (batch.labels > 0)
        offered = batch.items[said_yes]
        shape = (len(batch.items), self.in_batch if len(offered) else 0)
        items = offered[torch.from_numpy(generator.integers(0, max(len(offered), 1), shape))]
        real = ~((items[:, :, None] == batch.items[:, None]) & batch.real[:, None]).any(2)
        real &= said_yes.any(1, keepdim=True)
        again = torch.tril(items[:, :, None] == items[:, None], diagonal=-1).any(2)
        real &= ~again
        return ImpressionBatch(
            batch.histories,
            torch.cat([batch.items, items.masked_fill(~real, 0)], dim=1),
            torch.cat([batch.labels, torch.zeros(shape)], dim=1),
            torch.cat([batch.real, real], dim=1),
            torch.cat([batch.sampled, real], dim=1),
            batch.user,
        )
