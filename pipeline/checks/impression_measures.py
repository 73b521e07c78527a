"""Counts of what is wrong with labelled impressions, taken from the files that training reads; none of the code that
builds them is used here."""

import numpy as np
from numpy.typing import NDArray

from hmar.data.snapshot import PORTIONS, Impressions, Portion, Snapshot

MOMENTS = 1 << 18
"""Looked at together: bounds the memory."""


def impression_measures(snapshot: Snapshot, split: str, train_end: NDArray[np.int64]) -> dict[str, int]:
    """The measures of :mod:`pipeline.checks.snapshot` about the labelled impressions of one split, of all its tasks."""
    found: dict[str, int] = {}
    for task in snapshot.tasks(split):
        for name, count in _of_task(snapshot, split, task, train_end).items():
            found[name] = found.get(name, 0) + count
    return found


def _of_task(snapshot: Snapshot, split: str, task: str, train_end: NDArray[np.int64]) -> dict[str, int]:
    parts = {part: snapshot.impressions(split, part, task) for part in PORTIONS}
    found = {"moments_out_of_turn": _out_of_turn(snapshot, split, parts, train_end)}
    for impressions in parts.values():
        for first in range(0, len(impressions), MOMENTS):
            for name, count in _of(snapshot, impressions, first, min(first + MOMENTS, len(impressions))).items():
                found[name] = found.get(name, 0) + count
    nothing = dict.fromkeys(_of(snapshot, parts["training"], 0, 0), 0)
    return nothing | found


def _out_of_turn(
    snapshot: Snapshot, split: str, parts: dict[Portion, Impressions], train_end: NDArray[np.int64]
) -> int:
    """Training moments after a user's training events, judged ones before their end, and parts that overlap in time:
    of each user, or where the split goes by time, of all."""
    wrong = 0
    for part, shown in parts.items():
        trained = shown.history_end < train_end[shown.user]
        wrong += int((~trained if part == "training" else trained).sum())
    earlier, later = parts["validation"], parts["test"]
    if split == "temporal":
        for one, other in ((parts["training"], earlier), (earlier, later)):
            if len(other):
                wrong += int((one.time >= other.time.min()).sum())
        return wrong
    first = np.full(snapshot.n_users, np.iinfo(np.int64).max)
    np.minimum.at(first, later.user, later.time)
    return wrong + int((earlier.time >= first[earlier.user]).sum())


def _of(snapshot: Snapshot, shown: Impressions, first: int, end: int) -> dict[str, int]:
    chosen = slice(first, end)
    start, time, user = shown.history_end[chosen], shown.time[chosen], shown.user[chosen]
    opens, closes = snapshot.offsets[user], snapshot.offsets[user + 1]
    inside = (opens <= start) & (start < closes)
    now = np.where(inside, snapshot.time[np.where(inside, start, 0)], np.iinfo(np.int64).min)
    last = snapshot.time[np.maximum(start - 1, 0)]
    cells = slice(int(shown.offsets[first]), int(shown.offsets[end]))
    item, label, sampled = shown.item[cells].astype(np.int64), shown.label[cells], shown.sampled[cells]
    moment = np.repeat(np.arange(end - first), np.diff(shown.offsets[first : end + 1]))
    key = moment * snapshot.n_items + item
    # What was said at each moment: item by item, whether anything was a yes.
    rows, at = _ranges(start, np.where(inside, _first_after(snapshot, start, closes, time), start))
    says = snapshot.feedback
    if shown.asked != snapshot.target_behavior:
        says = (np.arange(len(snapshot.behaviors)) == shown.asked).astype(np.int8)
    said = np.append(says, 0)[np.minimum(snapshot.behavior[rows], len(snapshot.behaviors))]
    rows, at, said = rows[said != 0], at[said != 0], said[said != 0]
    known, place = np.unique(at * snapshot.n_items + snapshot.item[rows], return_inverse=True)
    yes = np.zeros(len(known), bool)
    np.logical_or.at(yes, place, said > 0)
    found = np.searchsorted(known, key).clip(max=max(len(known) - 1, 0))
    was_said = known[found] == key if len(known) else np.zeros(len(key), bool)
    right = was_said & (yes[found] == (label > 0)) if len(known) else was_said
    first_seen = snapshot.items.column("first_seen").cast("int64").to_numpy()
    there = (item >= 0) & (item < len(first_seen))
    seen_at = np.where(there, first_seen[np.where(there, item, 0)], np.iinfo(np.int64).max)
    return {
        "impressions_with_future": int(((start > opens) & (last >= time)).sum()),
        "impressions_cut_short": int((now != time).sum()),
        "impressions_mislabeled": int(np.where(sampled, was_said | (label != 0), ~right).sum()),
        "impressions_unseen_by_then": int((sampled & (seen_at >= time[moment])).sum()),
        "impressions_of_used_items": _used(snapshot, opens, start, item[sampled], moment[sampled]),
        "impressions_twice": len(key) - len(np.unique(key)),
    }


def _first_after(
    snapshot: Snapshot, start: NDArray[np.int64], end: NDArray[np.int64], time: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The first row of each range start : end with a later time, by halving all ranges at once."""
    low, high = start.copy(), end.copy()
    while (low < high).any():
        middle = (low + high) // 2
        later = snapshot.time[np.minimum(middle, len(snapshot.time) - 1)] > time
        open_ = low < high
        high = np.where(open_ & later, middle, high)
        low = np.where(open_ & ~later, middle + 1, low)
    return low


def _used(
    snapshot: Snapshot,
    opens: NDArray[np.int64],
    start: NDArray[np.int64],
    item: NDArray[np.int64],
    moment: NDArray[np.int64],
) -> int:
    """How many (moment, item) pairs the moment's history has an event of that uses the item up."""
    if not snapshot.consuming.any() or not len(item):
        return 0
    wrong = 0
    size = max(1, MOMENTS * 16 // max(int((start - opens).max()), 1))
    for first in range(0, len(start), size):
        rows, at = _ranges(opens[first : first + size], start[first : first + size])
        used = np.append(snapshot.consuming, False)[np.minimum(snapshot.behavior[rows], len(snapshot.behaviors))]
        gone = np.unique((at[used] + first) * snapshot.n_items + snapshot.item[rows[used]])
        own = (moment >= first) & (moment < first + size)
        wrong += int(np.isin(moment[own] * snapshot.n_items + item[own], gone).sum())
    return wrong


def _ranges(start: NDArray[np.int64], end: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of the ranges start[m] : end[m] end to end, and the m of each, int64 [T]."""
    at = np.repeat(np.arange(len(start)), end - start)
    before = np.cumsum(end - start) - (end - start)
    return np.arange(len(at)) - before[at] + start[at], at
