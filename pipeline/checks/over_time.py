"""The newest partition against the ones before it: its volume, its mix of behaviors."""

from collections import Counter
from collections.abc import Sequence
from statistics import median

from pipeline.storage.events_store import Partition

LEAST = 3
"""Partitions before the newest that are needed to say what is usual."""


def measures(partitions: Sequence[Partition], trailing: int) -> dict[str, float | None]:
    """``volume`` and ``behavior_drift`` of the newest partition; None where fewer than ``LEAST`` come before it.

    volume: its events over the median of the ``trailing`` partitions before it. behavior_drift: total variation
    distance, 0 to 1, between its shares of behaviors and theirs taken together.

    Args:
        partitions: of the events as they would be published, in any order.
    """
    ordered = sorted(partitions, key=lambda partition: partition.event_date)
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
