"""Training batches: every position of a user's history predicts the next one, gathered without a loop over users.

Nothing here has hidden state. The order of an epoch and the negatives of a step are functions of (seed, epoch, step),
so a training resumed at (epoch, step) sees exactly what an uninterrupted one would have seen.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from hmar.data.count_runs import count_runs
from hmar.data.counting import PriorCounts
from hmar.data.histories import Histories, spans
from hmar.data.negatives import NegativeSampler, NegativesFrom, NegativesPer
from hmar.data.snapshot import Snapshot
from hmar.data.targets import reading
from hmar.errors import DataError
from hmar.models.base import TrainingBatch

_ORDER, _NEGATIVES = 0, 1


class TrainingData:
    """The training events of one split, as batches of users.

    A user's window is the last ``max_length`` + 1 training events that the model reads: the first ``max_length`` are
    inputs, and each predicts the one after it, whatever its behavior. Earlier events enter through the counts only.
    Users with fewer than two such events have nothing to predict and are left out.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        split: str,
        *,
        max_length: int,
        batch_size: int = 128,
        negatives: int = 1,
        negatives_from: NegativesFrom = "unseen",
        negatives_per: NegativesPer = "position",
        counts: bool = True,
        seed: int = 0,
        behaviors: Sequence[str] | None = None,
        prior: PriorCounts | None = None,
    ) -> None:
        """
        Args:
            max_length: L, inputs per user at most. batch_size: users per batch.
            negatives: sampled items per position; 0 for losses that need none.
            negatives_from, negatives_per: see :class:`hmar.data.negatives.NegativeSampler`. The catalog is the
                snapshot's: an item without training events is only ever a negative, which puts it at the bottom of the
                ranking, where it belongs for a model that has learned nothing about it.
            counts: whether the model reads counts: ``negative_hbi`` where every position has negatives of its own, and
                ``count_runs`` where it has not. Without, batches are made faster and have neither.
            behaviors: the events that the model reads and predicts; None means all.
            prior: the snapshot's counts index, to share one.

        Raises:
            DataError: no user has two training events that the model reads.
        """
        self.snapshot, self.split = snapshot, split
        self.batch_size, self.negatives, self.seed, self.counts = batch_size, negatives, seed, counts
        self.prior = prior or PriorCounts(snapshot)
        self.sampler = NegativeSampler(
            snapshot, split, source=negatives_from, per=negatives_per, count=negatives, behaviors=behaviors
        )
        self._reading = reading(snapshot, behaviors)
        self._train_end = snapshot.train_end(split)
        self._stop = self._reading.before(self._train_end)
        self._start = np.maximum(self._reading.before(snapshot.offsets[:-1]), self._stop - (max_length + 1))
        self.users = np.flatnonzero(self._stop - self._start >= 2)
        if len(self.users) == 0:
            read = "" if behaviors is None else f" of {', '.join(behaviors)}"
            raise DataError(
                f"{snapshot.path}, split {split}: no user has two training events{read}, so there is nothing to "
                "learn; give the pipeline a longer log"
            )

    @property
    def steps(self) -> int:
        """Batches per epoch; the last one may be smaller."""
        return -(-len(self.users) // self.batch_size)

    @cached_property
    def tokens(self) -> int:
        """Positions per epoch."""
        return int((self._stop - self._start)[self.users].sum()) - len(self.users)

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """The users of an epoch in its order: a permutation of ``users``."""
        return self._generator(_ORDER, epoch, 0).permutation(self.users)

    def batches(self, epoch: int, start: int = 0) -> Iterator[TrainingBatch]:
        """The batches of an epoch from step ``start`` on."""
        order = self.epoch(epoch)
        for step in range(start, self.steps):
            users = order[step * self.batch_size : (step + 1) * self.batch_size]
            yield self.batch(users, self._generator(_NEGATIVES, epoch, step))

    def _generator(self, purpose: int, epoch: int, step: int) -> np.random.Generator:
        return np.random.Generator(
            np.random.Philox(np.random.SeedSequence(self.seed, spawn_key=(purpose, epoch, step)))
        )

    def batch(self, users: NDArray[np.int64], generator: np.random.Generator) -> TrainingBatch:
        """The batch of chosen users (out of ``users``), its negatives drawn from ``generator``."""
        snapshot = self.snapshot
        start, stop = self._start[users], self._stop[users]
        window, bounds = spans(start, stop)
        rows = self._reading.rows(window)
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
        negatives, log_q = self.sampler.draw(past, users, row, next_item, generator)
        own = negatives if negatives.ndim == 2 and self.counts else np.zeros((len(row), 0), np.int64)
        had = past.lookup(np.repeat(row, own.shape[1]), own.reshape(-1), np.repeat(rows[following], own.shape[1]))
        asked = np.eye(len(snapshot.behaviors), dtype=np.float32).take(next_behavior, axis=0)
        return TrainingBatch(
            histories=histories,
            next_item=torch.from_numpy(next_item),
            next_behavior=torch.from_numpy(next_behavior),
            next_hbi=torch.from_numpy(hbi.take(following, axis=0)),
            negatives=torch.from_numpy(negatives),
            negative_hbi=torch.from_numpy(had.astype(np.float32).reshape(*own.shape, asked.shape[1]) + asked[:, None]),
            user=torch.from_numpy(users),
            negative_log_q=torch.from_numpy(log_q),
            count_runs=(
                count_runs(snapshot, users, offsets, rows[following])
                if self.counts and (negatives.ndim == 1 or self.negatives == 0)
                else None
            ),
        )
