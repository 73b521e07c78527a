"""The newest partition against the ones before it: its volume, its mix of behaviors."""

from collections import Counter
from collections.abc import Collection, Sequence
from statistics import median

from pipeline.storage.events_store import Partition

LEAST = 3
"""Partitions before the newest that are needed to say what is usual."""


def measures(
    partitions: Sequence[Partition], trailing: int, added: Collection[str] | None = None
) -> dict[str, float | None]:
    """``volume`` and ``behavior_drift`` of the newest partition; None where fewer than ``LEAST`` come before it.

    volume: its events over the median of the ``trailing`` partitions before it. behavior_drift: total variation
    distance, 0 to 1, between its shares of behaviors and theirs taken together.

    Args:
        partitions: of the events as they would be published, in any order.
        added: names of the files that are added to published events: the newest partition is the last one that they
            are about. A partition that only late rows have come to says nothing of what is usual, and is left out.
            None: the files are all there is, and the newest partition is the last.
    """
    ordered = sorted(partitions, key=lambda partition: partition.event_date)
    if added is not None:
        about = _about(ordered)
        ordered = [partition for partition in ordered if about[partition.path]]
        while ordered and not about[ordered[-1].path] & set(added):
            ordered.pop()
    before = ordered[:-1][-trailing:]
    if len(before) < LEAST:
        return {"volume": None, "behavior_drift": None}
    newest = ordered[-1]
    usual: Counter[str] = Counter()
    for partition in before:
        usual.update(partition.behaviors)
    return {
        "volume": newest.rows / median(partition.rows for partition in before),
        "behavior_drift": distance(newest.behaviors, usual),
    }


def distance(one: dict[str, int], other: dict[str, int]) -> float:
    """Total variation distance of two distributions given as counts."""
    ones, others = sum(one.values()), sum(other.values())
    return sum(abs(one.get(name, 0) / ones - other.get(name, 0) / others) for name in {*one, *other}) / 2


def _about(partitions: Sequence[Partition]) -> dict[str, set[str]]:
    """Path -> the files that are about that partition: it holds at least half of what their even share would be."""
    rows: Counter[str] = Counter()
    spread: Counter[str] = Counter()
    for partition in partitions:
        rows.update(partition.inputs)
        spread.update(partition.inputs.keys())
    return {
        partition.path: {name for name, events in partition.inputs.items() if events * 2 * spread[name] >= rows[name]}
        for partition in partitions
    }
