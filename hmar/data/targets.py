"""What models read before a moment of asking: the latest events of a history, all behaviors or some."""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from hmar.data.histories import Histories, pack, spans
from hmar.data.snapshot import Snapshot, Targets
from hmar.errors import SettingsError
from hmar.settings import nearest


class Reading:
    """The events of a snapshot that a model reads, numbered 0..E'-1 in stored order.

    For all behaviors these numbers are the rows of the event table and nothing is kept; for some behaviors their rows
    are listed once, int64 [E'], and every later question is a binary search. Get one by :func:`reading`.
    """

    def __init__(self, snapshot: Snapshot, behaviors: Sequence[str] | None) -> None:
        self._rows: NDArray[np.int64] | None = None
        if behaviors is not None and set(behaviors) != set(snapshot.behaviors):
            for name in behaviors:
                if name not in snapshot.behaviors:
                    raise SettingsError(f"behaviors: unknown {name!r}{nearest(name, list(snapshot.behaviors))}")
            wanted = np.array([name in behaviors for name in snapshot.behaviors], bool)
            self._rows = np.flatnonzero(wanted[snapshot.behavior])

    def before(self, row: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many read events stand before each row of the event table; the number of the first one from it on."""
        return row if self._rows is None else np.searchsorted(self._rows, row)

    def rows(self, number: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of the event table of read events, by their numbers."""
        return number if self._rows is None else self._rows[number]


_READINGS: WeakKeyDictionary[Snapshot, dict[frozenset[str] | None, Reading]] = WeakKeyDictionary()


def reading(snapshot: Snapshot, behaviors: Sequence[str] | None = None) -> Reading:
    """The reading of some behaviors (None: all), made once per open snapshot.

    Raises:
        SettingsError: a behavior that the snapshot has not.
    """
    known = _READINGS.setdefault(snapshot, {})
    key = None if behaviors is None else frozenset(behaviors)
    if key not in known:
        known[key] = Reading(snapshot, behaviors)
    return known[key]


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
    """
    read = reading(snapshot, behaviors)
    stop = read.before(end)
    start = np.maximum(read.before(snapshot.offsets[user]), stop - max_length)
    index, offsets = spans(start, stop)
    return pack(snapshot, read.rows(index), offsets, now, asked)


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
