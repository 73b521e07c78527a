"""What is known of candidates just before a moment, against loops over the event table; and what cannot be known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.batches import TrainingData
from hmar.data.counting import PriorCounts
from hmar.data.evidence import Evidence
from hmar.data.snapshot import Snapshot
from hmar.models.base import TrainingBatch
from tests.support.arrays import random_users, write_snapshot
from tests.support.models import counts_of_rows

SPLIT = "leave_one_out"
L = 6
Known = tuple[list[int], int, int, int]

WAYS: dict[str, dict[str, Any]] = {
    "own": {"negatives": 3},
    "shared": {"negatives": 9, "negatives_from": "popularity", "negatives_per": "batch"},
    "none": {"negatives": 0},
}


def known(shop: Snapshot, user: int, item: int, event: int) -> Known:
    """Counts, last behavior, events since and age, in microseconds, just before ``event``."""
    before = [row for row in range(shop.offsets[user], event) if shop.item[row] == item]
    counts = [sum(int(shop.behavior[row] == code) for row in before) for code in range(3)]
    if not before:
        return counts, 0, 0, 0
    last = before[-1]
    return counts, int(shop.behavior[last]), event - last, int(shop.time[event] - shop.time[last])


def cell(evidence: Evidence, place: tuple[int, ...]) -> Known:
    assert evidence.behavior is not None
    assert evidence.events is not None
    assert evidence.age is not None
    counts = [int(count) for count in evidence.counts[place]]
    return counts, int(evidence.behavior[place]), int(evidence.events[place]), int(evidence.age[place])


def asked(shop: Snapshot, batch: TrainingBatch) -> list[tuple[int, int]]:
    """User and row of the event table of every position's next event."""
    found = []
    for user in batch.user.tolist():
        rows = range(shop.offsets[user], shop.train_end(SPLIT)[user])
        found += [(user, row) for row in rows[-(L + 1) :][1:]]
    return found


def batch_of(shop: Snapshot, way: str) -> TrainingBatch:
    (batch,) = TrainingData(shop, SPLIT, max_length=L, batch_size=100, counts=False, recency=True, **WAYS[way]).batches(
        0
    )
    return batch


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_knows_what_stood_before_each_event(shop: Snapshot, way: str) -> None:
    batch = batch_of(shop, way)
    events = asked(shop, batch)
    assert batch.next_event is not None
    assert batch.next_time is not None
    assert batch.next_event.tolist() == [row for _, row in events]
    assert batch.next_time.tolist() == [shop.time[row] for _, row in events]
    assert (batch.next_evidence is None) == (way == "none")
    assert (batch.negative_evidence is None) == (way != "own")
    assert (batch.count_runs is None) == (way == "own")
    for t, (user, row) in enumerate(events):
        if batch.next_evidence is not None:
            assert cell(batch.next_evidence, (t,)) == known(shop, user, int(batch.next_item[t]), row)
        if batch.negative_evidence is not None:
            for n, item in enumerate(batch.negatives[t].tolist()):
                assert cell(batch.negative_evidence, (t, n)) == known(shop, user, item, row)
    if batch.count_runs is None:
        return
    position, run = batch.count_runs.cells()
    evidence = batch.count_runs.evidence(position, run, batch.next_event, batch.next_time)
    items = batch.count_runs.item[run].tolist()
    got = {(t, item): cell(evidence, (n,)) for n, (t, item) in enumerate(zip(position.tolist(), items, strict=True))}
    expected = {
        (t, item): known(shop, user, item, row)
        for t, (user, row) in enumerate(events)
        for item in set(shop.item[shop.offsets[user] : row].tolist())
    }
    assert got == expected


def test_without_recency_a_batch_has_none_of_it(shop: Snapshot) -> None:
    (batch,) = TrainingData(shop, SPLIT, max_length=L, batch_size=100, negatives=0).batches(0)
    assert batch.next_event is batch.next_evidence is batch.negative_evidence is None
    assert batch.count_runs is not None
    assert batch.count_runs.behavior is batch.count_runs.time is batch.count_runs.event is None


def test_candidates_of_an_evaluation_have_the_same_evidence(shop: Snapshot) -> None:
    users = np.arange(shop.n_users)
    ends = np.maximum(shop.offsets[1:] - 2, shop.offsets[:-1])
    now = torch.from_numpy(shop.time[np.minimum(ends, len(shop.time) - 1)])
    seen = PriorCounts(shop).history_items(users, ends)
    evidence = seen.evidence(now)
    cells = zip(seen.row.tolist(), seen.item.tolist(), strict=True)
    got = {(user, item): cell(evidence, (n,)) for n, (user, item) in enumerate(cells)}
    assert got == {
        (user, item): known(shop, user, item, int(ends[user]))
        for user in users.tolist()
        for item in set(shop.item[shop.offsets[user] : ends[user]].tolist())
    }


def test_counts_by_hand_are_those_of_a_snapshot(tmp_path: Path) -> None:
    rows = random_users(9, 7, 3, 12, seed=4)
    snapshot = write_snapshot(tmp_path / "s", rows, items=7)
    made = counts_of_rows(rows, 3)
    found = PriorCounts(snapshot).history_items(np.arange(9), np.array(snapshot.offsets[1:]))
    order = (made.row * 7 + made.item).argsort()
    for name in found.__dataclass_fields__:
        assert torch.equal(getattr(made, name)[order], getattr(found, name)), name


@pytest.mark.parametrize("way", WAYS)
def test_what_happens_from_an_event_on_does_not_reach_the_evidence_before_it(tmp_path: Path, way: str) -> None:
    """Every user's last training event, and all after it, may be anything."""
    rows = random_users(12, 9, 3, 12, seed=8, shortest=4)
    changed = [[*row[:-2], ((row[-2][0] + 1) % 9, 2, row[-2][2]), (3, 2, row[-1][2] + 5)] for row in rows]
    one, other = (
        batch_of(write_snapshot(tmp_path / name, users, items=9, held_out=1), way)
        for name, users in (("one", rows), ("other", changed))
    )
    last = set((one.histories.offsets[1:] - 1).tolist())
    for batch in (one, other):
        assert batch.next_event is not None
    before = [t for t in range(len(one.next_item)) if t not in last]
    assert before
    if one.next_evidence is not None and other.next_evidence is not None:
        for t in before:
            assert cell(one.next_evidence, (t,)) == cell(other.next_evidence, (t,))
    if one.count_runs is not None and other.count_runs is not None:
        tables = []
        for batch in (one, other):
            runs = batch.count_runs
            assert runs is not None
            position, run = runs.cells()
            evidence = runs.evidence(position, run, batch.next_event, batch.next_time)
            places = zip(position.tolist(), runs.item[run].tolist(), strict=True)
            # The event itself is in no evidence about it, so the last position's is the same, too.
            tables.append({place: cell(evidence, (n,)) for n, place in enumerate(places)})
        assert tables[0] == tables[1]
