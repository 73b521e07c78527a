"""Counts of what is wrong with a snapshot, taken from the very arrays and tables that training reads.

Nothing of the code that builds a snapshot is used here: an error there does not hide itself.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from hmar.data.snapshot import PARTS, Snapshot, Targets
from pipeline.checks.impression_measures import impression_measures
from pipeline.checks.snapshot import LEAKS_OF_PUBLISHED

CHUNK = 1 << 22
"""Events, or candidates, looked at together: bounds the memory."""


def measure(snapshot: Snapshot) -> dict[str, int]:
    """The measures of :mod:`pipeline.checks.snapshot` by name, splits' as ``<split>_<measure>``; and ``events``.

    Raises:
        DataError: a file cannot be read.
    """
    found = {"events": snapshot.manifest.events, **_ids(snapshot), **_events(snapshot)}
    for split in snapshot.manifest.splits:
        for name, count in _split(snapshot, split).items():
            if split != "published" or name not in LEAKS_OF_PUBLISHED:
                found[f"{split}_{name}"] = count
    return found


def _ids(snapshot: Snapshot) -> dict[str, int]:
    gaps = twice = 0
    for table, dense, source in ((snapshot.users, "user", "user_id"), (snapshot.items, "item", "item_id")):
        ids = table.column(dense).to_numpy()
        gaps += int((ids != np.arange(len(ids))).sum())
        twice += len(ids) - pc.count_distinct(table.column(source)).as_py()
    return {"ids_with_gaps": gaps, "source_ids_twice": twice}


def _events(snapshot: Snapshot) -> dict[str, int]:
    offsets, total = snapshot.offsets, len(snapshot.item)
    unknown_items = unknown_behaviors = out_of_order = uncounted = 0
    of_item = np.zeros(snapshot.n_items, np.int64)
    for first, end in _chunks(total):
        item, behavior = snapshot.item[first:end], snapshot.behavior[first:end]
        known = (item >= 0) & (item < snapshot.n_items)
        coded = behavior < len(snapshot.behaviors)
        unknown_items += int((~known).sum())
        unknown_behaviors += int((~coded).sum())
        of_item += np.bincount(item[known], minlength=snapshot.n_items)
        own = np.take_along_axis(snapshot.hbi[first:end][coded], behavior[coded, None].astype(np.intp), axis=1)
        uncounted += int((own == 0).sum())
        time = np.asarray(snapshot.time[max(first - 1, 0) : end])
        backwards = np.flatnonzero(time[1:] < time[:-1]) + max(first, 1)
        out_of_order += int((~np.isin(backwards, offsets)).sum())
    of_user = np.diff(offsets)
    miscounted = int((snapshot.items.column("events").to_numpy() != of_item).sum())
    users = snapshot.users.column("events").to_numpy()
    miscounted += int((users != of_user).sum()) if len(users) == len(of_user) else abs(len(users) - len(of_user))
    return {
        "events_of_unknown_users": abs(total - int(offsets[-1])) + int((of_user < 0).sum()),
        "events_of_unknown_items": unknown_items,
        "events_of_unknown_behavior": unknown_behaviors,
        "events_out_of_order": out_of_order,
        "events_uncounted": uncounted,
        "events_miscounted": miscounted,
    }


def _split(snapshot: Snapshot, split: str) -> dict[str, int]:
    parts = {part: snapshot.targets(split, part) for part in PARTS}
    train_end = snapshot.train_end(split)
    found: dict[str, int] = {}
    for targets in parts.values():
        for name, count in {
            **_targets(snapshot, targets),
            "targets_trained_on": int((targets.event < train_end[targets.user]).sum()),
            **_candidates(snapshot, split, targets),
        }.items():
            found[name] = found.get(name, 0) + count
    found["training_with_future"] = _training_with_future(snapshot, parts["validation"], train_end, split)
    if snapshot.has_impressions(split):
        found |= impression_measures(snapshot, split, train_end)
    if split != "temporal":
        found["validation_after_test"] = _validation_after_test(snapshot, parts["validation"], parts["test"])
    return found


def _targets(snapshot: Snapshot, targets: Targets) -> dict[str, int]:
    first, end = snapshot.offsets[targets.user], snapshot.offsets[targets.user + 1]
    inside = (first <= targets.history_end) & (targets.history_end <= targets.event) & (targets.event < end)
    event, history_end = targets.event[inside], targets.history_end[inside]
    of_target = (snapshot.item[event] == targets.item[inside]) & (snapshot.behavior[event] == snapshot.target_behavior)
    time = snapshot.time[event]
    has_history = history_end > first[inside]
    last = snapshot.time[np.maximum(history_end - 1, 0)]
    return {
        "targets_misplaced": int((~inside).sum() + (~of_target).sum()),
        "histories_with_future": int((has_history & (last >= time)).sum()),
        "histories_cut_short": int((snapshot.time[history_end] < time).sum()),
        "catalogs_wrong": int((_catalog(snapshot, time) != targets.catalog[inside]).sum()),
    }


def _catalog(snapshot: Snapshot, time: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the first items anyone had seen before each moment (microseconds), int64 [N]."""
    first_seen = snapshot.items.column("first_seen").cast("int64").to_numpy()
    return np.searchsorted(np.maximum.accumulate(first_seen), time, side="left")


def _training_with_future(snapshot: Snapshot, targets: Targets, train_end: NDArray[np.int64], split: str) -> int:
    if not len(targets):
        return 0
    if split != "temporal":
        return int(np.maximum(train_end[targets.user] - targets.history_end, 0).sum())
    trained = np.flatnonzero(train_end > snapshot.offsets[:-1])
    latest = snapshot.time[train_end[trained] - 1]
    return int((latest >= snapshot.time[targets.event].min()).sum())


def _validation_after_test(snapshot: Snapshot, validation: Targets, test: Targets) -> int:
    latest = np.full(snapshot.n_users, np.iinfo(np.int64).max)
    latest[test.user] = snapshot.time[test.event]
    return int((snapshot.time[validation.event] >= latest[validation.user]).sum())


def _candidates(snapshot: Snapshot, split: str, targets: Targets) -> dict[str, int]:
    drawn = snapshot.candidates(split, targets)
    wanted = snapshot.manifest.candidates
    # Where the catalog is large nothing can be missing; where it is small, what the user used up is missing too.
    plenty = targets.catalog - 1 - (targets.history_end - snapshot.offsets[targets.user]) >= wanted
    twice = 0
    for first, end in _chunks(len(drawn), max(1, CHUNK // wanted)):
        ordered = np.sort(drawn[first:end], axis=1)
        twice += int(((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).sum())
    return {
        "candidates_missing": int((drawn[plenty] < 0).sum()),
        "candidates_unseen_by_then": int((drawn >= targets.catalog[:, None]).sum()),
        "candidates_of_the_target": int((drawn == targets.item[:, None]).sum()),
        "candidates_twice": twice,
    }


def _chunks(total: int, size: int = CHUNK) -> Iterator[tuple[int, int]]:
    for first in range(0, total, size):
        yield first, min(first + size, total)
