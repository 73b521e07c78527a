"""Counts over events: how popular items are, and how often a user had done what with an item before a moment."""

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from hmar.data.histories import spans
from hmar.data.snapshot import Snapshot
from hmar.errors import DataError
from hmar.models.base import CandidateCounts

_CHUNK_EVENTS = 4_000_000


def popularity(snapshot: Snapshot, split: str, behavior: int | None) -> NDArray[np.float32]:
    """Events per item among the training events of ``split``, float32 [V].

    Args:
        behavior: count this behavior's events only; None counts all.
    """
    train_end = snapshot.train_end(split)
    counts = np.zeros(snapshot.n_items, np.int64)
    for users in _user_chunks(snapshot.offsets):
        rows, _ = spans(snapshot.offsets[users], train_end[users])
        items = snapshot.item[rows]
        if behavior is not None:
            items = items[snapshot.behavior[rows] == behavior]
        counts += np.bincount(items, minlength=snapshot.n_items)
    return counts.astype(np.float32)


class PriorCounts:
    """For any user, item and row of the event table: the user's events with the item before that row.

    One int64 per event: the mixed-radix number (user, item, place in the user's history), sorted. The predecessor of
    (user, item, end) in it is the last event of that user with that item before ``end``, and the HBI stored with an
    event counts up to and including it. The index is built at the first question, in chunks of users.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        lengths = np.diff(snapshot.offsets)
        self._places = int(lengths.max(initial=0)) + 1
        if snapshot.n_users * snapshot.n_items * self._places >= 2**63:
            raise DataError(
                f"{snapshot.path}: {snapshot.n_users} users x {snapshot.n_items} items x {self._places} events of the "
                "longest history exceed what one index holds; raise k_core or drop the users with extreme histories"
            )

    @cached_property
    def _keys(self) -> NDArray[np.int64]:
        offsets = self.snapshot.offsets
        keys = np.empty(self.snapshot.manifest.events, np.int64)
        for users in _user_chunks(offsets):
            rows = slice(int(offsets[users.start]), int(offsets[users.stop]))
            chosen = np.arange(users.start, users.stop)
            user = np.repeat(chosen, np.diff(offsets[users.start : users.stop + 1]))
            chunk = self._key(user, self.snapshot.item[rows], np.arange(rows.start, rows.stop))
            chunk.sort()
            keys[rows] = chunk
        return keys

    def _key(
        self, user: NDArray[np.integer], item: NDArray[np.integer], row: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        key: NDArray[np.int64] = (user.astype(np.int64) * self.snapshot.n_items + item) * self._places
        return key if row is None else key + (row - self.snapshot.offsets[user])

    def lookup(
        self, user: NDArray[np.integer], item: NDArray[np.integer], end: NDArray[np.int64]
    ) -> NDArray[np.uint16]:
        """Counts per behavior of user n's events with item n in rows offsets[user] : end; uint16 [N, R].

        Args:
            user, item: dense ids [N]. end: rows of the event table [N].
        """
        counts = np.zeros((len(user), len(self.snapshot.behaviors)), np.uint16)
        if len(self._keys) == 0:
            return counts
        lowest = self._key(user, item, None)
        before = np.searchsorted(self._keys, lowest + (end - self.snapshot.offsets[user])) - 1
        last = self._keys[before.clip(min=0)]
        found = np.flatnonzero((before >= 0) & (last >= lowest))
        rows = self.snapshot.offsets[user[found]] + last[found] - lowest[found]
        counts[found] = self.snapshot.hbi[rows]
        return counts

    def distinct(
        self, user: NDArray[np.integer], end: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The distinct items of the histories offsets[user] : end, each with the row of its last event there.

        Returns:
            row: int64 [P], index into ``user``. item: int64 [P]. event: int64 [P], row of the event table. Sorted by
            (row, item).
        """
        offsets = self.snapshot.offsets
        index, bounds = spans(offsets[user], offsets[user.astype(np.int64) + 1])
        keys = self._keys[index]
        row = np.repeat(np.arange(len(user)), np.diff(bounds))
        place = keys % self._places
        item = keys // self._places - user.astype(np.int64)[row] * self.snapshot.n_items
        event = offsets[user][row] + place
        inside = event < end[row]
        row, item, event = row[inside], item[inside], event[inside]
        last = np.ones(len(row), bool)
        last[:-1] = (row[1:] != row[:-1]) | (item[1:] != item[:-1])
        return row[last], item[last], event[last]

    def history_items(self, user: NDArray[np.integer], end: NDArray[np.int64]) -> CandidateCounts:
        """What the model needs to know of B whole histories offsets[user] : end: each (row, item) once, with counts."""
        row, item, event = self.distinct(user, end)
        return CandidateCounts(
            row=torch.from_numpy(row),
            item=torch.from_numpy(item),
            counts=torch.from_numpy(self.snapshot.hbi[event].astype(np.float32)),
        )


def _user_chunks(offsets: NDArray[np.int64]) -> list[slice]:
    """Ranges of users with about _CHUNK_EVENTS events each, at least one user each."""
    chunks, start, users = [], 0, len(offsets) - 1
    while start < users:
        stop = int(np.searchsorted(offsets, offsets[start] + _CHUNK_EVENTS, side="right")) - 1
        stop = min(max(stop, start + 1), users)
        chunks.append(slice(start, stop))
        start = stop
    return chunks
