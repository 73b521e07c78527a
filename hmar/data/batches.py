"""Training batches: every position of a user's history predicts the next one, gathered without a loop over users.

Nothing here has hidden state. The order of an epoch and the negatives of a step are functions of (seed, epoch, step),
so a training resumed at (epoch, step) sees exactly what an uninterrupted one would have seen.

Events stay where they are, in memory-mapped files of which a batch reads its users' parts, so a snapshot may be larger
than memory. Held in memory are 16 bytes per window (:class:`hmar.data.windows.Windows` and its positions), an epoch's
order with 8 (and some 50 per user and window while windows are cut or sorted by length), and counts per item.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hmar.data.count_runs import count_runs
from hmar.data.counting import Past, PriorCounts
from hmar.data.evidence import Evidence, evidence
from hmar.data.histories import Histories, spans
from hmar.data.moving import each_tensor
from hmar.data.negatives import NegativeSampler, NegativesFrom, NegativesPer, WholeBatch
from hmar.data.order import Batches, Batching, Order
from hmar.data.published import PublishedContext
from hmar.data.snapshot import Snapshot
from hmar.data.targets import Reading
from hmar.data.windows import LongHistories, Windows
from hmar.errors import DataError, SettingsError
from hmar.models.base import TrainingBatch

_ORDER, _NEGATIVES = 0, 1


class TrainingData:
    """The training events of one split, as batches of windows.

    A window is up to ``max_length`` inputs, each of which predicts the event after it, whatever its behavior. States
    know the events of their window only: its first target is predicted from one event. Counts know the whole history
    before the target. Users with fewer than two training events that the model reads have nothing to predict and are
    left out.
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
        long_histories: LongHistories = "last",
        negatives: int = 1,
        negatives_from: NegativesFrom = "unseen",
        negatives_per: NegativesPer = "position",
        counts: bool = True,
        recency: bool = False,
        seed: int = 0,
        behaviors: Sequence[str] | None = None,
        prior: PriorCounts | None = None,
        published: PublishedContext | None = None,
    ) -> None:
        """
        Args:
            max_length: L, inputs per window at most.
            batch_size: windows per batch. batch_tokens: positions per batch, about, whatever the windows; then
                ``batch_size`` counts for nothing.
            batching: see :class:`hmar.data.order.Batches`.
            long_histories: what becomes of a user's training events before the last L + 1: see
                :meth:`hmar.data.windows.Windows.of`.
            negatives: sampled items per position; 0 for losses that need none.
            negatives_from, negatives_per: see :class:`hmar.data.negatives.NegativeSampler`. The catalog is the
                snapshot's: an item without training events is only ever a negative, which puts it at the bottom of the
                ranking, where it belongs for a model that has learned nothing about it.
            counts: whether the model reads counts: ``negative_hbi`` where every position has negatives of its own, and
                ``count_runs`` where it has not. Without, batches are made faster and have neither.
            recency: whether the model reads :class:`hmar.data.evidence.Evidence`: ``next_evidence`` where the loss
                samples, ``negative_evidence`` where every position has negatives of its own, and ``count_runs`` that
                know their events where it has not.
            behaviors: the events that the model reads and predicts; None means all.
            prior: the snapshot's counts index, to share one.
            published: counts and labels as HMAR's published code has them, in place of point-in-time ones.

        Raises:
            DataError: no user has two training events that the model reads.
            SettingsError: batch_tokens below 2 L; published counts for negatives that positions share.
        """
        if published is not None and published.needs_own_negatives and (negatives == 0 or negatives_per == "batch"):
            raise SettingsError(
                f"negatives_per: {', '.join(published.leaks)} is known for negatives of a position's own only; set "
                "position and a loss that samples"
            )
        if batch_tokens is not None and batch_tokens < 2 * max_length:
            raise SettingsError(f"batch_tokens: {batch_tokens} is less than twice max_length ({max_length}); raise it")
        self.snapshot, self.split = snapshot, split
        self.negatives, self.seed, self.counts, self.recency = negatives, seed, counts, recency
        self.prior = prior or PriorCounts(snapshot)
        self.published = published
        self.sampler = NegativeSampler(
            snapshot, split, source=negatives_from, per=negatives_per, count=negatives, behaviors=behaviors
        )
        self._reading = Reading(snapshot, behaviors)
        self._train_end = snapshot.train_end(split)
        read = self._reading.count(snapshot.offsets[:-1], self._train_end)
        self.windows = Windows.of(read, max_length, long_histories)
        if len(self.windows) == 0:
            what = "" if behaviors is None else f" of {', '.join(behaviors)}"
            raise DataError(
                f"{snapshot.path}, split {split}: no user has two training events{what}, so there is nothing to "
                "learn; give the pipeline a longer log"
            )
        self._batches = Batches(self.windows.positions, batch_size, batch_tokens, batching)

    @cached_property
    def steps(self) -> int:
        """Batches per epoch, the same in all of them."""
        return self._batches.count

    @cached_property
    def tokens(self) -> int:
        """Positions per epoch."""
        return self._batches.total

    def order(self, epoch: int) -> Order:
        """The windows of an epoch, batch by batch: a permutation of all of them, unless drawn with replacement."""
        return self._batches.order(self._generator(_ORDER, epoch, 0))

    def users(self, epoch: int, step: int) -> NDArray[np.int64]:
        """The users of a batch, each once, in its order."""
        users = self.windows.user[self.order(epoch).batch(step)]
        return np.array(list(dict.fromkeys(users.tolist())), np.int64)

    def batches(self, epoch: int, start: int = 0) -> Iterator[TrainingBatch]:
        """The batches of an epoch from step ``start`` on."""
        for batch, _ in self.shares(epoch, start):
            yield batch

    def shares(self, epoch: int, start: int = 0, rank: int = 0, size: int = 1) -> Iterator[tuple[TrainingBatch, int]]:
        """The share of one process out of ``size`` in each of them, and the positions of the whole batch."""
        order = self.order(epoch)
        for step in range(start, self.steps):
            chosen = order.batch(step)
            positions = int(self.windows.take(chosen).positions.sum())
            yield self.batch(chosen, self._generator(_NEGATIVES, epoch, step), rank, size), positions

    def _generator(self, purpose: int, epoch: int, step: int) -> np.random.Generator:
        return np.random.Generator(
            np.random.Philox(np.random.SeedSequence(self.seed, spawn_key=(purpose, epoch, step)))
        )

    def _rows(self, windows: Windows, skip: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The events of windows but for the first ``skip`` of each: rows of the event table and their offsets."""
        first, end = self.snapshot.offsets[windows.user], self._train_end[windows.user]
        return self._reading.between(first, end, windows.start + skip, windows.stop)

    def _whole(self, windows: Windows, first: int) -> WholeBatch:
        """What drawing negatives has to know of a batch of which only the windows from ``first`` on are gathered."""
        positions = windows.positions
        row = np.repeat(np.arange(len(windows)), positions)
        next_item = None
        if self.sampler.asks_next_items:
            next_item = self.snapshot.item[self._rows(windows, skip=1)[0]].astype(np.int64)
        return WholeBatch(windows.user.astype(np.int64), row, next_item, int(positions[:first].sum()))

    def batch(
        self, chosen: NDArray[np.int64], generator: np.random.Generator, rank: int = 0, size: int = 1
    ) -> TrainingBatch:
        """The batch of chosen windows, its negatives drawn from ``generator``; a user may have several.

        With several processes, the share of the one that is ``rank`` out of ``size``: consecutive windows of the batch,
        cut where the positions, not the windows, are shared equally; none where there are fewer of them than processes.
        They alone are gathered, and they have the negatives that they have in the whole batch.
        """
        snapshot, windows = self.snapshot, self.windows.take(chosen)
        whole = None
        if size > 1:
            begin, end = _share(windows.positions, rank, size)
            whole = self._whole(windows, begin)
            windows = windows.take(np.arange(begin, end))
        users = windows.user.astype(np.int64)
        rows, bounds = self._rows(windows)
        item, behavior = snapshot.item[rows].astype(np.int64), snapshot.behavior[rows].astype(np.int64)
        # Rows of a matrix are gathered by take: indexing is ten times slower.
        hbi = snapshot.hbi.take(rows, axis=0).astype(np.float32)
        inputs, offsets = spans(bounds[:-1], bounds[1:] - 1)
        following, last = inputs + 1, bounds[1:] - 1
        histories = Histories(
            item=torch.from_numpy(item[inputs]),
            behavior=torch.from_numpy(behavior[inputs]),
            time=torch.from_numpy(snapshot.time[rows[inputs]]),
            hbi=torch.from_numpy(hbi.take(inputs, axis=0)),
            offsets=torch.from_numpy(offsets),
            asked=torch.from_numpy(behavior[last]),
            now=torch.from_numpy(snapshot.time[rows[last]]),
        )
        next_item, next_behavior = item[following], behavior[following]
        row = np.repeat(np.arange(len(users)), np.diff(offsets))
        past = self.prior.of(users)
        negatives, log_q = self.sampler.draw(past, users, row, next_item, generator, whole)
        own = negatives if negatives.ndim == 2 and self.counts else np.zeros((len(row), 0), np.int64)
        had = past.lookup(np.repeat(row, own.shape[1]), own.reshape(-1), np.repeat(rows[following], own.shape[1]))
        asked = np.eye(len(snapshot.behaviors), dtype=np.float32).take(next_behavior, axis=0)
        batch = TrainingBatch(
            histories=histories,
            next_item=torch.from_numpy(next_item),
            next_behavior=torch.from_numpy(next_behavior),
            next_hbi=torch.from_numpy(hbi.take(following, axis=0)),
            next_time=torch.from_numpy(snapshot.time[rows[following]]),
            negatives=torch.from_numpy(negatives),
            negative_hbi=torch.from_numpy(had.astype(np.float32).reshape(*own.shape, asked.shape[1]) + asked[:, None]),
            user=torch.from_numpy(users),
            negative_log_q=torch.from_numpy(log_q),
            count_runs=(
                count_runs(snapshot, users, offsets, rows[following], self.recency)
                if (self.counts or self.recency) and (negatives.ndim == 1 or self.negatives == 0)
                else None
            ),
        )
        if self.recency:
            batch = self._with_recency(batch, past, row, rows[following])
        return batch if self.published is None else self.published.training(batch, past, snapshot.offsets[users + 1])

    def _with_recency(
        self, batch: TrainingBatch, past: Past, row: NDArray[np.int64], following: NDArray[np.int64]
    ) -> TrainingBatch:
        """The batch with what is known of its candidates just before the events ``following``, int64 [T]."""
        assert batch.next_time is not None
        time = batch.next_time.numpy()

        def of(items: Tensor) -> Evidence:
            each = items.numel() // max(len(items), 1)
            rows, end, now = (np.repeat(x, each) for x in (row, following, time))
            cells = evidence(self.snapshot, past.last(rows, items.numpy().reshape(-1), end), end, now)
            return each_tensor(cells, lambda x: x.reshape(*items.shape, *x.shape[1:]))

        sampled, own = self.negatives > 0, self.negatives > 0 and batch.negatives.ndim == 2
        return replace(
            batch,
            next_event=torch.from_numpy(following),
            next_evidence=of(batch.next_item) if sampled else None,
            negative_evidence=of(batch.negatives) if own else None,
        )


def _share(positions: NDArray[np.int32], rank: int, size: int) -> tuple[int, int]:
    """The rows first : last of a batch, whose rows have so many positions, that are the share of one process."""
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(positions, dtype=np.int64)])
    first, last = np.searchsorted(offsets, offsets[-1] * np.array([rank, rank + 1]) // size)
    return int(first), int(last)
