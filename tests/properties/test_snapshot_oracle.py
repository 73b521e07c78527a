"""Any small log: the snapshot is what the plain-Python oracle says."""

import tempfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hmar.data.snapshot import PARTS, Snapshot
from hmar.errors import DataError
from tests.support.events import EPOCH, Event, moment
from tests.support.snapshot_oracle import Expected, expect
from tests.support.tiny_snapshot import SHOP, make_snapshot

MICROSECONDS = 1_000_000


def times_of(snapshot: Snapshot) -> list[int]:
    start = round(EPOCH.timestamp()) * MICROSECONDS
    return [int(time) - start for time in snapshot.time]


def sequences_of(snapshot: Snapshot) -> dict[Any, list[Event]]:
    """The stored sequences in source ids."""
    users, items = snapshot.users["user_id"].to_pylist(), snapshot.items["item_id"].to_pylist()
    times = times_of(snapshot)
    return {
        user: [
            (user, items[snapshot.item[row]], snapshot.behaviors[snapshot.behavior[row]], times[row] // MICROSECONDS)
            for row in range(snapshot.offsets[number], snapshot.offsets[number + 1])
        ]
        for number, user in enumerate(users)
    }


def hash_ties(events: list[Event], behaviors: tuple[str, ...]) -> dict[tuple[Any, Any, str], int]:
    """The neutral order inside a tie, asked of DuckDB: hash of user, item and behavior code."""
    kind = "varchar" if isinstance(events[0][0], str) else "bigint"
    item_kind = "varchar" if isinstance(events[0][1], str) else "bigint"
    question = f"select hash(hash(cast(? as {kind}), cast(? as {item_kind}), cast(? as utinyint)))"
    with duckdb.connect() as connection:
        return {
            (user, item, behavior): connection.execute(question, [user, item, behaviors.index(behavior)]).fetchall()[0][
                0
            ]
            for user, item, behavior, _ in events
        }


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Few users and items, many ties, many target events; ids are whole numbers or strings."""
    users, items, last = draw(st.sampled_from([(4, 7, 12), (2, 3, 4), (2, 12, 1), (1, 2, 3), (2, 8, 20)]))
    event = st.tuples(
        st.integers(1, users), st.integers(1, items), st.sampled_from([*SHOP, "buy", "buy"]), st.integers(0, last)
    )
    rows = draw(st.lists(event, min_size=1, max_size=60, unique=True))
    if draw(st.booleans()):
        return [(f"u{user}", f"i{item}", behavior, time) for user, item, behavior, time in rows]
    return list(rows)


@pytest.mark.slow
@given(
    events=logs(),
    repeats=st.booleans(),
    consumed_by=st.sampled_from([SHOP, ("buy",), ("cart", "buy")]),
    core=st.sampled_from([(1, 1), (1, 1), (2, 1), (2, 3), (5, 4)]),
    unseen=st.booleans(),
    candidates=st.sampled_from([1, 3, 20]),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_snapshot_is_what_the_oracle_says(
    events: list[Event],
    repeats: bool,
    consumed_by: tuple[str, ...],
    core: tuple[int, int],
    unseen: bool,
    candidates: int,
) -> None:
    ties = hash_ties(events, SHOP)
    used_by = () if repeats else consumed_by
    expected = expect(events, SHOP, "buy", used_by, core, lambda event: ties[event[:3]])
    options: dict[str, Any] = {"k_core": {"user": core[0], "item": core[1]}, "unseen": unseen, "candidates": candidates}
    with tempfile.TemporaryDirectory() as home:
        try:
            snapshot = make_snapshot(Path(home), events, repeats=repeats, consumed_by=used_by, **options)
        except DataError:
            assert not any(expected.targets["temporal"].values()), "refused a log that has targets"
            return
        compare_events(snapshot, expected)
        for split in ("leave_one_out", "temporal"):
            compare_split(snapshot, expected, split, used_by, unseen)


def compare_events(snapshot: Snapshot, expected: Expected) -> None:
    assert snapshot.users["user_id"].to_pylist() == expected.users
    assert snapshot.items["item_id"].to_pylist() == expected.items
    assert snapshot.items["first_seen"].to_pylist() == [moment(expected.first_seen[item]) for item in expected.items]
    assert sequences_of(snapshot) == expected.sequences
    stored = [tuple(int(count) for count in row) for row in snapshot.hbi]
    assert stored == [row for user in expected.users for row in expected.hbi[user]]


def compare_split(snapshot: Snapshot, expected: Expected, split: str, used_by: tuple[str, ...], unseen: bool) -> None:
    users, items = expected.users, expected.items
    offsets, flat = snapshot.offsets, [event for user in users for event in expected.sequences[user]]
    ends = snapshot.train_end(split)
    trained = {user: flat[offsets[n] : ends[n]] for n, user in enumerate(users)}
    assert trained == expected.trained[split]
    trained_items = {event[1] for own in trained.values() for event in own}
    for part in PARTS:
        targets = snapshot.targets(split, part)
        assert [flat[row] for row in targets.event] == sorted(
            expected.targets[split][part], key=lambda event: flat.index(event)
        )
        drawn = snapshot.candidates(split, targets)
        for n in range(len(targets)):
            target = flat[targets.event[n]]
            user = users[targets.user[n]]
            history = flat[offsets[targets.user[n]] : targets.history_end[n]]
            assert (user, items[targets.item[n]]) == target[:2]
            assert history == expected.history(target)
            assert targets.catalog[n] == expected.catalog(target)
            met = {event[1] for event in history}
            assert targets.repeat[n] == (target[1] in met)
            assert targets.cold_user[n] == (not history)
            assert targets.cold_item[n] == (target[1] not in trained_items)
            taken = {event[1] for event in history if event[2] in used_by} | (met if unseen else set())
            admissible = set(items[: targets.catalog[n]]) - taken - {target[1]}
            found = [items[item] for item in drawn[n] if item >= 0]
            assert len(set(found)) == len(found) == min(len(admissible), snapshot.manifest.candidates)
            assert set(found) <= admissible
            assert np.all(drawn[n][len(found) :] == -1), "nulls come last"
