"""The order of an epoch: which windows make which batch. Every window is in exactly one, unless they are drawn with
replacement."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Batching = Literal["shuffled", "by_length", "replacement"]

POOL = 50
"""Batches whose windows are sorted by length among themselves."""


@dataclass(frozen=True)
class Order:
    """Batch k is windows[bounds[k] : bounds[k+1]], at least one.

    Attributes:
        windows: int64 [W], a permutation; drawn with replacement, [K size]. bounds: int64 [K+1].
    """

    windows: NDArray[np.int64]
    bounds: NDArray[np.int64]

    def batch(self, step: int) -> NDArray[np.int64]:
        """The windows of one batch."""
        return self.windows[self.bounds[step] : self.bounds[step + 1]]


@dataclass(frozen=True)
class Batches:
    """How an epoch is cut: into K batches in every epoch, whatever its order.

    Attributes:
        positions: int32 [W], of each window, at least 1. size: windows of a batch; the last one may have fewer.
        tokens: cut after about so many positions instead: a batch has fewer than this plus the longest window's. At
            least twice the longest window's, so that no batch is empty.
        batching: shuffled: windows as chance has it. by_length: chance deals them into pools of :data:`POOL` batches,
            a pool is sorted by length and cut, and chance shuffles the batches of all pools; windows in a batch are
            then of similar length. replacement: as HMAR's published code, W // size batches (one at least), each of
            ``size`` windows drawn from all, alike and with replacement; ``tokens`` counts for nothing.
    """

    positions: NDArray[np.int32]
    size: int
    tokens: int | None = None
    batching: Batching = "shuffled"

    @property
    def total(self) -> int:
        """Positions per epoch."""
        return int(self.positions.sum(dtype=np.int64))

    @property
    def count(self) -> int:
        """K."""
        if self.batching == "replacement":
            return max(1, len(self.positions) // self.size)
        if self.tokens is None:
            return -(-len(self.positions) // self.size)
        return -(-self.total // self.tokens)

    def order(self, generator: np.random.Generator) -> Order:
        """An epoch's batches, all of them drawn from ``generator``."""
        if self.batching == "replacement":
            drawn = generator.integers(0, len(self.positions), self.count * self.size)
            return Order(drawn, np.arange(self.count + 1) * self.size)
        windows = generator.permutation(len(self.positions))
        if self.batching == "shuffled":
            return Order(windows, self._bounds(windows))
        size = self.size if self.tokens is None else -(-len(windows) // self.count)
        pool = np.arange(len(windows)) // (POOL * size)
        windows = windows[np.lexsort((self.positions[windows], pool))]
        bounds = self._bounds(windows)
        turn = generator.permutation(self.count)
        lengths = np.diff(bounds)[turn]
        after = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        place = np.arange(len(windows)) + np.repeat(bounds[turn] - after[:-1], lengths)
        return Order(windows[place], after)

    def _bounds(self, windows: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.tokens is None:
            return np.minimum(np.arange(self.count + 1) * self.size, len(windows))
        ends = np.cumsum(self.positions[windows], dtype=np.int64)
        before = ends - self.positions[windows]
        marks = -(-np.arange(self.count + 1) * self.total // self.count)
        return np.searchsorted(before, marks)
