"""Windows of long histories, and whole epochs of batches against loops over the event table."""

from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hmar.data.batches import TrainingData
from hmar.data.snapshot import Snapshot
from hmar.data.windows import Windows
from hmar.errors import SettingsError
from hmar.models.base import TrainingBatch
from tests.support.arrays import random_users, write_snapshot

SPLIT = "leave_one_out"
ITEMS = 7


@given(read=st.lists(st.integers(0, 40), max_size=12), length=st.integers(1, 12))
def test_every_event_with_a_predecessor_is_predicted_once(read: list[int], length: int) -> None:
    windows = Windows.of(np.array(read, np.int64), length, "windows")
    predicted: dict[int, list[int]] = defaultdict(list)
    inputs: dict[int, list[int]] = defaultdict(list)
    for user, start, stop in zip(windows.user, windows.start, windows.stop, strict=True):
        assert 1 <= stop - start - 1 <= length
        predicted[int(user)] += range(start + 1, stop)
        inputs[int(user)].append(int(stop - start - 1))
    for user, events in enumerate(read):
        assert sorted(predicted[user]) == list(range(1, events))
        assert all(count == length for count in inputs[user][:-1])
    assert windows.positions.sum() == sum(max(0, events - 1) for events in read)


@given(read=st.lists(st.integers(0, 40), max_size=12), length=st.integers(1, 12))
def test_last_is_the_newest_window_of_each_user(read: list[int], length: int) -> None:
    last, windows = (Windows.of(np.array(read, np.int64), length, way) for way in ("last", "windows"))
    _, newest = np.unique(windows.user, return_index=True)
    for name in ("user", "start", "stop"):
        assert getattr(last, name).tolist() == getattr(windows, name)[newest].tolist()


GIVEN = st.fixed_dictionaries(
    {
        "max_length": st.integers(1, 9),
        "batch_size": st.integers(1, 40),
        "batch_tokens": st.none() | st.integers(18, 60),
        "batching": st.sampled_from(["shuffled", "by_length"]),
        "long_histories": st.sampled_from(["last", "windows"]),
        "negatives": st.sampled_from([0, 2]),
        "negatives_from": st.sampled_from(["unseen", "uniform", "popularity"]),
        "behaviors": st.sampled_from([None, ("buy",), ("view", "cart")]),
    }
)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Histories of up to 40 events on 7 items; user 3 has had every item in training."""
    users = random_users(15, ITEMS, 3, 40, seed=3, shortest=3)
    users[3] += [(item, item % 3, 1000 + item) for item in range(ITEMS)] + [(0, 2, 2000)] * 2
    return write_snapshot(tmp_path_factory.mktemp("long") / "snapshot", users, items=ITEMS, held_out=2)


def expected_windows(snapshot: Snapshot, given: dict[str, Any]) -> Counter[tuple[int, ...]]:
    """Rows of the event table of each window, its user's first."""
    codes = [snapshot.behaviors.index(name) for name in given["behaviors"] or snapshot.behaviors]
    length, windows = given["max_length"], []
    for user in range(snapshot.n_users):
        rows = range(snapshot.offsets[user], snapshot.train_end(SPLIT)[user])
        read = [row for row in rows if snapshot.behavior[row] in codes]
        while len(read) >= 2:
            windows.append(tuple(read[-(length + 1) :]))
            read = read[:-length] if given["long_histories"] == "windows" else []
    return Counter(windows)


def counts_before(snapshot: Snapshot, user: int, item: int, event: int) -> list[int]:
    counts = [0] * len(snapshot.behaviors)
    for row in range(snapshot.offsets[user], event):
        counts[snapshot.behavior[row]] += int(snapshot.item[row] == item)
    return counts


def runs_at(batch: TrainingBatch, position: int) -> dict[int, list[int]]:
    """What count_runs says of one position."""
    runs = batch.count_runs
    assert runs is not None
    live = ((runs.first <= position) & (position < runs.stop)).nonzero()[:, 0].tolist()
    assert len({int(runs.item[run]) for run in live}) == len(live)
    return {int(runs.item[run]): [int(n) for n in runs.counts[run]] for run in live}


def check(snapshot: Snapshot, batch: TrainingBatch, given: dict[str, Any]) -> list[tuple[int, ...]]:
    """Everything in a batch but for chance against loops; the event rows of its windows."""
    histories, windows = batch.histories, []
    for place, user in enumerate(batch.user.tolist()):
        first, stop = histories.offsets[place : place + 2].tolist()
        trained = snapshot.item[snapshot.offsets[user] : snapshot.train_end(SPLIT)[user]].tolist()
        # An event is known by user and time: times of a user are distinct.
        moments = [*histories.time[first:stop].tolist(), int(histories.now[place])]
        own = {int(snapshot.time[r]): r for r in range(snapshot.offsets[user], snapshot.offsets[user + 1])}
        rows = [own[moment] for moment in moments]
        windows.append(tuple(rows))
        assert histories.item[first:stop].tolist() == snapshot.item[rows[:-1]].tolist()
        assert histories.behavior[first:stop].tolist() == snapshot.behavior[rows[:-1]].tolist()
        assert histories.hbi[first:stop].tolist() == snapshot.hbi[rows[:-1]].tolist()
        assert batch.next_item[first:stop].tolist() == snapshot.item[rows[1:]].tolist()
        assert batch.next_behavior[first:stop].tolist() == snapshot.behavior[rows[1:]].tolist()
        assert batch.next_hbi[first:stop].tolist() == snapshot.hbi[rows[1:]].tolist()
        for position, event in zip(range(first, stop), rows[1:], strict=True):
            drawn = batch.negatives[position].tolist()
            plus = np.eye(3, dtype=int)[snapshot.behavior[event]]
            for item, got in zip(drawn, batch.negative_hbi[position].tolist(), strict=True):
                assert got == (counts_before(snapshot, user, item, event) + plus).tolist()
                if given["negatives_from"] != "unseen":
                    assert item != snapshot.item[event]
                elif len(set(trained)) < ITEMS:
                    assert item not in trained
            if not drawn:
                had = {item: counts_before(snapshot, user, item, event) for item in range(ITEMS)}
                assert runs_at(batch, position) == {item: counts for item, counts in had.items() if any(counts)}
    return windows


@settings(max_examples=25)
@given(given=GIVEN, seed=st.integers(0, 3))
def test_an_epoch_holds_what_loops_say(long: Snapshot, given: dict[str, Any], seed: int) -> None:
    data = TrainingData(long, SPLIT, seed=seed, **given)
    met: list[tuple[int, ...]] = []
    steps = 0
    for step, batch in enumerate(data.batches(seed)):
        met += check(long, batch, given)
        assert data.users(seed, step).tolist() == list(dict.fromkeys(batch.user.tolist()))
        steps += 1
    assert Counter(met) == expected_windows(long, given)
    assert data.steps == steps
    assert data.tokens == sum(len(rows) - 1 for rows in met)


@settings(max_examples=25)
@given(given=GIVEN, start=st.integers(0, 5), size=st.integers(1, 4))
def test_resumed_or_shared_it_is_the_same(long: Snapshot, given: dict[str, Any], start: int, size: int) -> None:
    """From any step on, and from several processes put together."""
    whole = list(TrainingData(long, SPLIT, **given).batches(1))
    data = TrainingData(long, SPLIT, **given)
    ranks = [list(data.shares(1, start, rank, size)) for rank in range(size)]
    for number, batch in enumerate(whole[start:]):
        parts = [rank[number] for rank in ranks]
        assert {positions for _, positions in parts} == {len(batch.next_item)}
        for name in ("user", "next_item", "next_hbi", "negatives", "negative_hbi", "negative_log_q"):
            assert torch.equal(torch.cat([getattr(part, name) for part, _ in parts]), getattr(batch, name))
    assert all(len(rank) == max(0, len(whole) - start) for rank in ranks)


def test_several_windows_of_a_user_in_a_batch_have_negatives_and_counts_of_their_own(long: Snapshot) -> None:
    given = {"long_histories": "windows", "negatives_from": "unseen", "behaviors": None, "max_length": 4}
    data = TrainingData(long, SPLIT, max_length=4, batch_size=1000, long_histories="windows", negatives=3)
    (batch,) = data.batches(0)
    assert max(Counter(batch.user.tolist()).values()) > 5
    check(long, batch, given)


def test_positions_of_a_batch_are_about_batch_tokens() -> None:
    with TemporaryDirectory() as directory:
        users = random_users(300, 20, 3, 60, seed=1, shortest=3)
        snapshot = write_snapshot(Path(directory) / "s", users, items=20)
        data = TrainingData(snapshot, SPLIT, max_length=30, batch_tokens=400, negatives=0)
        tokens = [len(batch.next_item) for batch in data.batches(0)]
    assert max(tokens) < 430
    assert min(tokens) > 300


def test_batch_tokens_hold_two_windows(long: Snapshot) -> None:
    with pytest.raises(SettingsError, match=r"batch_tokens: 17 is less than twice max_length \(9\); raise it"):
        TrainingData(long, SPLIT, max_length=9, batch_tokens=17)
