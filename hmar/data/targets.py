"""What models read before a moment of asking: the latest events of a history, all behaviors or some."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hmar.data.counting import chunks
from hmar.data.histories import Histories, pack, spans
from hmar.data.snapshot import Snapshot, Targets
from hmar.errors import SettingsError
from hmar.settings import nearest


class Reading:
    """The events of a snapshot that a model reads. Nothing is kept of them: a snapshot may be larger than memory."""

    def __init__(self, snapshot: Snapshot, behaviors: Sequence[str] | None) -> None:
        """
        Raises:
            SettingsError: a behavior that the snapshot has not.
        """
        self.snapshot = snapshot
        self._wanted: NDArray[np.bool_] | None = None
        if behaviors is not None and set(behaviors) != set(snapshot.behaviors):
            for name in behaviors:
                if name not in snapshot.behaviors:
                    raise SettingsError(f"behaviors: unknown {name!r}{nearest(name, list(snapshot.behaviors))}")
            self._wanted = np.array([name in behaviors for name in snapshot.behaviors], bool)

    def count(self, first: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
        """Read events in each of the ranges first[b] : end[b] of the event table, int64 [B]."""
        if self._wanted is None:
            return np.asarray(end - first)
        counts = [np.zeros(0, np.int64)]
        for some in chunks(np.concatenate([np.zeros(1, np.int64), np.cumsum(end - first)])):
            counts.append(np.diff(self._read(first[some], end[some])[1]))
        return np.concatenate(counts)

    def between(
        self,
        first: NDArray[np.int64],
        end: NDArray[np.int64],
        start: NDArray[np.integer],
        stop: NDArray[np.integer],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of the read events in each range first[b] : end[b], those numbered start[b] : stop[b].

        Returns:
            Their rows of the event table end to end, int64 [T], and their offsets, int64 [B+1].
        """
        if self._wanted is None:
            return spans(first + start, first + stop)
        rows, bounds = self._read(first, end)
        chosen, offsets = spans(bounds[:-1] + start, bounds[:-1] + stop)
        return rows[chosen], offsets

    def latest(
        self, first: NDArray[np.int64], end: NDArray[np.int64], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The last ``count`` read events in each range, or all of fewer; returned as by :meth:`between`."""
        if self._wanted is None:
            return spans(np.maximum(first, end - count), end)
        rows, bounds = self._read(first, end)
        chosen, offsets = spans(np.maximum(bounds[:-1], bounds[1:] - count), bounds[1:])
        return rows[chosen], offsets

    def _read(self, first: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows, bounds = spans(first, end)
        assert self._wanted is not None
        read = self._wanted[self.snapshot.behavior[rows]]
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(read)])
        return rows[read], before[bounds]


def histories_before(
    snapshot: Snapshot,
    user: NDArray[np.integer],
    end: NDArray[np.int64],
    now: NDArray[np.int64],
    asked: int | NDArray[np.integer],
    max_length: int,
    behaviors: Sequence[str] | None = None,
) -> Histories:
    """The last ``max_length`` events of user b before row ``end[b]``, for B users.

    Args:
        user: dense ids [B]. end: rows of the event table [B]. now: the times of asking [B], microseconds.
        asked: the code of the behavior that is asked for, one or [B].
        behaviors: read these only; None reads all.

    Raises:
        SettingsError: a behavior that the snapshot has not.
    """
    rows, offsets = Reading(snapshot, behaviors).latest(snapshot.offsets[user], end, max_length)
    return pack(snapshot, rows, offsets, now, asked)


def histories_for(
    snapshot: Snapshot, targets: Targets, max_length: int, behaviors: Sequence[str] | None = None
) -> Histories:
    """What a model knows when it is asked for evaluation targets: events strictly before each target's time."""
    return histories_before(
        snapshot,
        targets.user,
        targets.history_end,
        snapshot.time[targets.event],
        snapshot.target_behavior,
        max_length,
        behaviors,
    )
