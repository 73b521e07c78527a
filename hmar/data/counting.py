"""Counts over events: how popular items are, and how often a user had done what with an item before a moment."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from hmar.data.histories import spans
from hmar.data.snapshot import Snapshot
from hmar.errors import DataError
from hmar.models.base import CandidateCounts

CHUNK_EVENTS = 2**20
"""Events looked at together where all of them are."""


def chunks(offsets: NDArray[np.int64]) -> Iterator[slice]:
    """Ranges of users, or of whatever owns the events offsets[u] : offsets[u+1], with about :data:`CHUNK_EVENTS` each
    and one user at least."""
    start, users = 0, len(offsets) - 1
    while start < users:
        stop = int(np.searchsorted(offsets, offsets[start] + CHUNK_EVENTS, side="right")) - 1
        stop = min(max(stop, start + 1), users)
        yield slice(start, stop)
        start = stop


def popularity(snapshot: Snapshot, split: str, behavior: int | None) -> NDArray[np.float32]:
    """Events per item among the training events of ``split``, float32 [V].

    Args:
        behavior: count this behavior's events only; None counts all.
    """
    train_end = snapshot.train_end(split)
    counts = np.zeros(snapshot.n_items, np.int64)
    for users in chunks(snapshot.offsets):
        rows, _ = spans(snapshot.offsets[users], train_end[users])
        items = snapshot.item[rows]
        if behavior is not None:
            items = items[snapshot.behavior[rows] == behavior]
        counts += np.bincount(items, minlength=snapshot.n_items)
    return counts.astype(np.float32)


class Past:
    """The whole histories of B users, by item. Questions name a user by its row b, and an end inside its history.

    One int64 per event: row, item and place in the history, each in bits of its own, sorted. The predecessor of
    (row, item, end) in it is the last event of that user with that item before ``end``, and the HBI stored with an
    event counts up to and including it. A user may be several rows.
    """

    def __init__(self, snapshot: Snapshot, user: NDArray[np.integer]) -> None:
        """
        Args:
            user: dense ids [B].

        Raises:
            DataError: the histories are too long, or too many, for numbers of 64 bits.
        """
        self._snapshot = snapshot
        self._first, self._stop = snapshot.offsets[user], snapshot.offsets[user.astype(np.int64) + 1]
        longest = int((self._stop - self._first).max(initial=0))
        # The place after the last may be asked for.
        self._place_bits, self._item_bits = longest.bit_length(), (snapshot.n_items - 1).bit_length()
        if len(user).bit_length() + self._item_bits + self._place_bits > 63:
            raise DataError(
                f"{snapshot.path}: {len(user)} users x {snapshot.n_items} items x {longest} events of the longest "
                "history exceed what one index holds; raise k_core or drop the users with extreme histories"
            )

    @cached_property
    def _keys(self) -> NDArray[np.int64]:
        """Made at the first question; some batches have none."""
        index, bounds = spans(self._first, self._stop)
        row = np.repeat(np.arange(len(self._first)), np.diff(bounds))
        keys = self._key(row, self._snapshot.item[index])
        keys += np.arange(len(index))
        keys -= bounds[row]
        # The rows are in order already, which the stable sort profits from.
        keys.sort(kind="stable")
        return keys

    def _key(self, row: NDArray[np.integer], item: NDArray[np.integer]) -> NDArray[np.int64]:
        key = row.astype(np.int64)
        key <<= self._item_bits
        key += item
        key <<= self._place_bits
        return key

    def lookup(self, row: NDArray[np.integer], item: NDArray[np.integer], end: NDArray[np.int64]) -> NDArray[np.uint16]:
        """Counts per behavior of the events of row[n]'s user with item[n] before ``end[n]``; uint16 [N, R].

        Args:
            row: indices into the users [N]. item: dense ids [N]. end: rows of the event table [N].
        """
        counts = np.zeros((len(row), len(self._snapshot.behaviors)), np.uint16)
        event = self.last(row, item, end)
        found = np.flatnonzero(event >= 0)
        counts[found] = self._snapshot.hbi[event[found]]
        return counts

    def last(self, row: NDArray[np.integer], item: NDArray[np.integer], end: NDArray[np.int64]) -> NDArray[np.int64]:
        """The last event of row[n]'s user with item[n] before ``end[n]``, int64 [N], -1 where there is none.

        Args:
            as of :meth:`lookup`. Events are rows of the event table.
        """
        if len(row) == 0 or len(self._keys) == 0:
            return np.full(len(row), -1, np.int64)
        lowest, first = self._key(row, item), self._first[row]
        before = np.searchsorted(self._keys, lowest + (end - first)) - 1
        last = self._keys[before.clip(min=0)]
        event: NDArray[np.int64] = np.where((before >= 0) & (last >= lowest), first + last - lowest, -1)
        return event

    def distinct(self, end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The distinct items of the histories up to ``end``, rows of the event table [B], each with its last event.

        Returns:
            row: int64 [P], index into the users. item: int64 [P]. event: int64 [P], row of the event table. Sorted by
            (row, item).
        """
        pair, place = self._keys >> self._place_bits, self._keys & ((1 << self._place_bits) - 1)
        row, item = pair >> self._item_bits, pair & ((1 << self._item_bits) - 1)
        event = self._first[row] + place
        inside = event < end[row]
        row, item, event = row[inside], item[inside], event[inside]
        last = np.ones(len(row), bool)
        last[:-1] = (row[1:] != row[:-1]) | (item[1:] != item[:-1])
        return row[last], item[last], event[last]


class PriorCounts:
    """For any user, item and row of the event table: the user's events with the item before that row."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def of(self, user: NDArray[np.integer]) -> Past:
        """The histories of users [B], to ask several questions about them."""
        return Past(self.snapshot, user)

    def history_items(self, user: NDArray[np.integer], end: NDArray[np.int64]) -> CandidateCounts:
        """What the model needs to know of B whole histories offsets[user] : end: each (row, item) once, with counts
        and the last event."""
        row, item, event = self.of(user).distinct(end)
        return CandidateCounts(
            row=torch.from_numpy(row),
            item=torch.from_numpy(item),
            counts=torch.from_numpy(self.snapshot.hbi[event].astype(np.float32)),
            behavior=torch.from_numpy(self.snapshot.behavior[event].astype(np.int64)),
            events=torch.from_numpy(end[row] - event),
            time=torch.from_numpy(self.snapshot.time[event]),
        )
