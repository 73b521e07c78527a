"""Counts against loops over the event table."""

from collections import Counter

import numpy as np
import pytest

from hmar.data import counting
from hmar.data.counting import PriorCounts, popularity
from hmar.data.snapshot import Snapshot
from hmar.errors import DataError

SPLIT = "leave_one_out"


@pytest.fixture(params=[10**6, 7], ids=["one-chunk", "many-chunks"], autouse=True)
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "CHUNK_EVENTS", request.param)


@pytest.mark.parametrize("behavior", [None, 0, 2])
def test_popularity_counts_training_events_only(shop: Snapshot, behavior: int | None) -> None:
    expected: Counter[int] = Counter()
    train_end = shop.train_end(SPLIT)
    for user in range(shop.n_users):
        for row in range(shop.offsets[user], train_end[user]):
            if behavior is None or shop.behavior[row] == behavior:
                expected[int(shop.item[row])] += 1
    counts = popularity(shop, SPLIT, behavior)
    assert counts.dtype == np.float32
    assert counts.tolist() == [expected[item] for item in range(shop.n_items)]


def test_lookup_counts_what_stands_before_a_row(shop: Snapshot) -> None:
    user, item, end, expected = [], [], [], []
    for u in range(shop.n_users):
        for e in range(shop.offsets[u], shop.offsets[u + 1] + 1):
            for i in range(shop.n_items):
                counts = [0, 0, 0]
                for row in range(shop.offsets[u], e):
                    counts[shop.behavior[row]] += int(shop.item[row] == i)
                user.append(u)
                item.append(i)
                end.append(e)
                expected.append(counts)
    everyone = np.arange(shop.n_users)
    counts = PriorCounts(shop).of(everyone).lookup(np.array(user), np.array(item), np.array(end))
    assert counts.dtype == np.uint16
    assert counts.tolist() == expected


def test_history_items_holds_each_item_of_a_history_once(shop: Snapshot) -> None:
    rng = np.random.default_rng(0)
    user = rng.integers(0, shop.n_users, 60)
    end = np.array([rng.integers(shop.offsets[u], shop.offsets[u + 1] + 1) for u in user])
    expected: Counter[tuple[int, int, int]] = Counter()
    for place, (u, e) in enumerate(zip(user, end, strict=True)):
        for row in range(shop.offsets[u], e):
            expected[place, int(shop.item[row]), int(shop.behavior[row])] += 1
    seen = PriorCounts(shop).history_items(user, end)
    cells = list(zip(seen.row.tolist(), seen.item.tolist(), strict=True))
    assert cells == sorted({(place, item) for place, item, _ in expected})
    got = {
        (*cell, code): int(n)
        for cell, counts in zip(cells, seen.counts.tolist(), strict=True)
        for code, n in enumerate(counts)
        if n
    }
    assert got == dict(expected)


def test_no_users_and_no_history(shop: Snapshot) -> None:
    prior = PriorCounts(shop)
    nothing = np.zeros(0, np.int64)
    assert prior.of(nothing).lookup(nothing, nothing, nothing).shape == (0, 3)
    assert prior.of(np.array([0])).lookup(nothing, nothing, nothing).shape == (0, 3)
    assert prior.history_items(nothing, nothing).counts.shape == (0, 3)
    first = np.array([0, 1])
    assert len(prior.history_items(first, shop.offsets[first]).row) == 0


def test_an_index_that_cannot_hold_the_snapshot_says_so(shop: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Snapshot, "n_items", property(lambda self: 2**60))
    with pytest.raises(DataError, match="exceed what one index holds; raise k_core"):
        PriorCounts(shop).of(np.array([0]))
