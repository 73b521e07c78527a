"""Negatives: items of which a position is told that they are not the next one, drawn without a loop over users."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hmar.data.counting import Past, popularity
from hmar.data.snapshot import Snapshot
from hmar.errors import DataError, SettingsError

NegativesFrom = Literal["unseen", "uniform", "popularity"]
NegativesPer = Literal["position", "batch"]

_CHUNK_USERS = 4096


@dataclass(frozen=True)
class WholeBatch:
    """A batch of which the negatives of some consecutive positions are wanted.

    Attributes:
        users: int64 [B], dense ids. row: int64 [T], index into ``users``. next_item: int64 [T], the true items; None
        unless the sampler asks for them. first: the first of the wanted positions.
    """

    users: NDArray[np.int64]
    row: NDArray[np.int64]
    next_item: NDArray[np.int64] | None
    first: int


class NegativeSampler:
    """Draws with replacement from a distribution q over the catalog, in integers, so that q is exact.

    unseen: uniform over the items outside the user's training history (over the whole catalog for a user who has had
    every item). uniform: over all items. popularity: q_j in proportion to 1 + the training events with item j that the
    model reads.

    Per position, uniform and popularity leave the true item out: q_j / (1 - q_true). Per batch, one set serves all
    positions, so the true item of some of them may be in it; a loss leaves it out there.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        split: str,
        *,
        source: NegativesFrom,
        per: NegativesPer,
        count: int,
        behaviors: Sequence[str] | None,
    ) -> None:
        """
        Args:
            count: N. behaviors: the events that the model reads; None means all.

        Raises:
            SettingsError: unseen per batch.
        """
        if (source, per) == ("unseen", "batch"):
            raise SettingsError("negatives_per: what one user has not had is no set for a whole batch; set position")
        self.snapshot, self.split, self.source, self.per, self.count = snapshot, split, source, per, count
        self.behaviors = behaviors

    def draw(
        self,
        past: Past,
        users: NDArray[np.int64],
        row: NDArray[np.int64],
        next_item: NDArray[np.int64],
        generator: np.random.Generator,
        whole: WholeBatch | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Negatives for T positions.

        Args:
            past: the histories of ``users``, dense ids [B]; a user may come several times.
            row: int64 [T], index into ``users``. next_item: int64 [T], the true items.
            whole: the batch that the positions are a part of; None where they are all of it. They have the same
            negatives either way, so that processes which share a batch draw what one process would.

        Returns:
            items: int64 [T, N] or, per batch, [N]. log_q: float32 of the same shape, the log of the probability with
            which each was drawn.

        Raises:
            DataError: the catalog has one item only.
        """
        shape = (self.count,) if self.per == "batch" else (len(row), self.count)
        if self.count == 0:
            return np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        if self.snapshot.n_items < 2:
            raise DataError(f"{self.snapshot.path}: one item only, so there is no negative to draw")
        if self.source == "unseen":
            return self._unseen(past, users, row, generator, whole)
        if self.source == "popularity":
            return self._popular(shape, next_item, generator, whole)
        return self._uniform(shape, next_item, generator, whole)

    @property
    def asks_next_items(self) -> bool:
        """Whether the true items of a whole batch decide how a part of it is drawn."""
        return self.count > 0 and self.source == "popularity" and self.per == "position"

    def _integers(
        self,
        generator: np.random.Generator,
        below: int | NDArray[np.int64],
        shape: tuple[int, ...],
        whole: WholeBatch | None,
    ) -> NDArray[np.int64]:
        """Numbers of ``shape``; where they are a part's, those of the whole are drawn and the part is cut out."""
        if whole is None or self.per == "batch":
            return generator.integers(0, below, shape)
        drawn: NDArray[np.int64] = generator.integers(0, below, (len(whole.row), *shape[1:]))
        return drawn[whole.first : whole.first + shape[0]]

    def _uniform(
        self,
        shape: tuple[int, ...],
        next_item: NDArray[np.int64],
        generator: np.random.Generator,
        whole: WholeBatch | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        allowed = self.snapshot.n_items - (self.per == "position")
        drawn = self._integers(generator, allowed, shape, whole)
        if self.per == "position":
            drawn = drawn + (drawn >= next_item[:, None])
        return drawn, np.full(shape, -np.log(allowed), np.float32)

    def _popular(
        self,
        shape: tuple[int, ...],
        next_item: NDArray[np.int64],
        generator: np.random.Generator,
        whole: WholeBatch | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The catalog as a line on which item j has length weight_j: a point on it, less the true item's stretch."""
        weights, ends = self._weights
        if self.per == "batch":
            drawn = np.searchsorted(ends, generator.integers(0, ends[-1], shape), side="right")
            return drawn, np.log(weights[drawn] / ends[-1]).astype(np.float32)
        true = weights[next_item][:, None]
        allowed = ends[-1] - true
        everywhere = allowed if whole is None else ends[-1] - weights[whole.next_item][:, None]
        point = self._integers(generator, everywhere, shape, whole)
        point += (point >= ends[next_item][:, None] - true) * true
        drawn = np.searchsorted(ends, point, side="right")
        return drawn, np.log(weights[drawn] / allowed).astype(np.float32)

    @cached_property
    def _weights(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """1 + events per item, int64 [V], and their running sum."""
        snapshot = self.snapshot
        codes = [None] if self.behaviors is None else [snapshot.behaviors.index(name) for name in self.behaviors]
        events = sum(popularity(snapshot, self.split, code).astype(np.int64) for code in codes)
        weights = np.asarray(events, np.int64) + 1
        return weights, np.cumsum(weights)

    @cached_property
    def _train_end(self) -> NDArray[np.int64]:
        """Opened once: opening it for every batch would take a tenth of the batch's time."""
        return self.snapshot.train_end(self.split)

    def _unseen(
        self,
        past: Past,
        users: NDArray[np.int64],
        row: NDArray[np.int64],
        generator: np.random.Generator,
        whole: WholeBatch | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """A number below the count of allowed items is drawn and the excluded items, in order, are stepped over."""
        items = self.snapshot.n_items
        owner, item, _ = past.distinct(self._train_end[users])
        had = np.bincount(owner, minlength=len(users))
        everything = had == items
        if everything.any():
            keep = ~everything[owner]
            owner, item = owner[keep], item[keep]
            had[everything] = 0
        first = np.cumsum(had) - had
        # The n-th excluded item stands after item - n allowed ones, so a draw r steps over all n with item - n <= r.
        allowed_before = item - (np.arange(len(item)) - first[owner])
        allowed = (items - had)[row][:, None]
        everywhere = allowed if whole is None else (items - self._had[whole.users])[whole.row][:, None]
        drawn = self._integers(generator, everywhere, (len(row), self.count), whole)
        stride = items + 1
        stepped = np.searchsorted(owner * stride + allowed_before, row[:, None] * stride + drawn, side="right")
        log_q = np.broadcast_to(-np.log(allowed), drawn.shape).astype(np.float32)
        return drawn + stepped - first[row][:, None], log_q

    @cached_property
    def _had(self) -> NDArray[np.int64]:
        """Distinct items in each user's training history, int64 [U]; 0 where that is all of them."""
        snapshot, end = self.snapshot, self._train_end
        had = np.zeros(snapshot.n_users, np.int64)
        for start in range(0, snapshot.n_users, _CHUNK_USERS):
            users = np.arange(start, min(start + _CHUNK_USERS, snapshot.n_users))
            owner, _, _ = Past(snapshot, users).distinct(end[users])
            had[users] = np.bincount(owner, minlength=len(users))
        had[had == snapshot.n_items] = 0
        return had
