"""Training batches: every position of a user's history predicts the next one, gathered without a loop over users.

Nothing here has hidden state. The order of an epoch and the negatives of a step are functions of (seed, epoch, step),
so a training resumed at (epoch, step) sees exactly what an uninterrupted one would have seen.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hmar.data.counting import PriorCounts
from hmar.data.histories import pack, spans
from hmar.data.snapshot import Snapshot
from hmar.data.targets import reading
from hmar.errors import DataError
from hmar.models.base import TrainingBatch

NegativesFrom = Literal["unseen", "uniform"]

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
        seed: int = 0,
        behaviors: Sequence[str] | None = None,
        prior: PriorCounts | None = None,
    ) -> None:
        """
        Args:
            max_length: L, inputs per user at most. batch_size: users per batch.
            negatives: sampled items per position; 0 for losses that need none.
            negatives_from: ``unseen`` draws uniformly from the items outside the user's training history (from the
                whole catalog for a user who has had every item), ``uniform`` from every item but the true one.
                The catalog is the snapshot's: an item without training events is only ever a negative, which puts it
                at the bottom of the ranking, where it belongs for a model that has learned nothing about it.
            behaviors: the events that the model reads and predicts; None means all.
            prior: the snapshot's counts index, to share one.

        Raises:
            DataError: no user has two training events that the model reads.
        """
        self.snapshot, self.split = snapshot, split
        self.batch_size, self.negatives, self.negatives_from, self.seed = batch_size, negatives, negatives_from, seed
        self.prior = prior or PriorCounts(snapshot)
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
        inputs, offsets = spans(start, stop - 1)
        following = self._reading.rows(inputs + 1)
        last = following[offsets[1:] - 1]
        histories = pack(
            snapshot, self._reading.rows(inputs), offsets, now=snapshot.time[last], asked=snapshot.behavior[last]
        )
        next_item = snapshot.item[following].astype(np.int64)
        next_behavior = snapshot.behavior[following].astype(np.int64)
        row = np.repeat(np.arange(len(users)), np.diff(offsets))
        negatives = self._draw(users, row, next_item, generator)
        asked = np.eye(len(snapshot.behaviors), dtype=np.float32)[next_behavior]
        counts = self.prior.lookup(
            np.repeat(users[row], self.negatives), negatives.reshape(-1), np.repeat(following, self.negatives)
        )
        return TrainingBatch(
            histories=histories,
            next_item=torch.from_numpy(next_item),
            next_behavior=torch.from_numpy(next_behavior),
            next_hbi=torch.from_numpy(snapshot.hbi[following].astype(np.float32)),
            negatives=torch.from_numpy(negatives),
            negative_hbi=torch.from_numpy(
                counts.reshape(*negatives.shape, len(snapshot.behaviors)).astype(np.float32) + asked[:, None, :]
            ),
            user=torch.from_numpy(users),
        )

    def _draw(
        self,
        users: NDArray[np.int64],
        row: NDArray[np.int64],
        next_item: NDArray[np.int64],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Negatives, int64 [T, N], exactly uniform over what is allowed: a number below the count of allowed items is
        drawn and the excluded items, in order, are stepped over."""
        shape = (len(row), self.negatives)
        items = self.snapshot.n_items
        if self.negatives == 0:
            return np.zeros(shape, np.int64)
        if items < 2:
            raise DataError(f"{self.snapshot.path}: one item only, so there is no negative to draw")
        if self.negatives_from == "uniform":
            drawn = generator.integers(0, items - 1, shape)
            return drawn + (drawn >= next_item[:, None])
        owner, item, _ = self.prior.distinct(users, self._train_end[users])
        had = np.bincount(owner, minlength=len(users))
        everything = had == items
        if everything.any():
            keep = ~everything[owner]
            owner, item = owner[keep], item[keep]
            had[everything] = 0
        first = np.cumsum(had) - had
        # The n-th excluded item stands after item - n allowed ones, so a draw r steps over all n with item - n <= r.
        allowed_before = item - (np.arange(len(item)) - first[owner])
        drawn = generator.integers(0, (items - had)[row][:, None], shape)
        stride = items + 1
        stepped = np.searchsorted(owner * stride + allowed_before, row[:, None] * stride + drawn, side="right")
        return drawn + stepped - first[row][:, None]
