"""Negatives: items of which a position is told that they are not the next one, drawn without a loop over users."""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hmar.data.counting import Past, popularity
from hmar.data.snapshot import Snapshot
from hmar.errors import DataError, SettingsError

NegativesFrom = Literal["unseen", "uniform", "popularity"]
NegativesPer = Literal["position", "batch"]


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
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Negatives for T positions.

        Args:
            past: the histories of ``users``, dense ids [B].
            row: int64 [T], index into ``users``. next_item: int64 [T], the true items.

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
            return self._unseen(past, users, row, generator)
        if self.source == "popularity":
            return self._popular(shape, next_item, generator)
        return self._uniform(shape, next_item, generator)

    def _uniform(
        self, shape: tuple[int, ...], next_item: NDArray[np.int64], generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        allowed = self.snapshot.n_items - (self.per == "position")
        drawn = generator.integers(0, allowed, shape)
        if self.per == "position":
            drawn = drawn + (drawn >= next_item[:, None])
        return drawn, np.full(shape, -np.log(allowed), np.float32)

    def _popular(
        self, shape: tuple[int, ...], next_item: NDArray[np.int64], generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The catalog as a line on which item j has length weight_j: a point on it, less the true item's stretch."""
        weights, ends = self._weights
        if self.per == "batch":
            drawn = np.searchsorted(ends, generator.integers(0, ends[-1], shape), side="right")
            return drawn, np.log(weights[drawn] / ends[-1]).astype(np.float32)
        true = weights[next_item][:, None]
        allowed = ends[-1] - true
        point = generator.integers(0, allowed, shape)
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

    def _unseen(
        self, past: Past, users: NDArray[np.int64], row: NDArray[np.int64], generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """A number below the count of allowed items is drawn and the excluded items, in order, are stepped over."""
        items = self.snapshot.n_items
        owner, item, _ = past.distinct(self.snapshot.train_end(self.split)[users])
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
        drawn = generator.integers(0, allowed, (len(row), self.count))
        stride = items + 1
        stepped = np.searchsorted(owner * stride + allowed_before, row[:, None] * stride + drawn, side="right")
        log_q = np.broadcast_to(-np.log(allowed), drawn.shape).astype(np.float32)
        return drawn + stepped - first[row][:, None], log_q
