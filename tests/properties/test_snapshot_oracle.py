"""Any small log: the snapshot is what the plain-Python oracle says, and keeps the promises of every split."""

import ast
import inspect
import tempfile
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hmar.data.snapshot import PARTS, Snapshot
from hmar.errors import DataError
from pipeline.settings import SPLITS
from pipeline.stages.snapshot import build
from tests.support import snapshot_oracle
from tests.support.events import EPOCH, Event, moment, publish_events
from tests.support.snapshot_oracle import Expected
from tests.support.tiny_snapshot import SHOP, make_snapshot, snapshot_run

SECOND = 1_000_000
START = round(EPOCH.timestamp()) * SECOND


def test_the_oracle_is_short_enough_to_believe() -> None:
    source = inspect.getsource(snapshot_oracle)
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
        text = node.body[0] if documented else node if isinstance(node, ast.Import | ast.ImportFrom) else None
        if text is not None:
            left_out |= set(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    lines = [line for number, line in enumerate(source.splitlines(), 1) if line.strip() and number not in left_out]
    assert len(lines) <= 40


def sequences_of(snapshot: Snapshot) -> dict[Any, list[Event]]:
    """The stored sequences in source ids."""
    users, items = snapshot.users["user_id"].to_pylist(), snapshot.items["item_id"].to_pylist()
    return {
        user: [
            (
                user,
                items[snapshot.item[row]],
                snapshot.behaviors[snapshot.behavior[row]],
                (int(snapshot.time[row]) - START) // SECOND,
            )
            for row in range(snapshot.offsets[number], snapshot.offsets[number + 1])
        ]
        for number, user in enumerate(users)
    }


def hash_ties(events: list[Event]) -> dict[tuple[Any, Any, str], int]:
    """The neutral order inside a tie, asked of DuckDB: hash of user, item and behavior code."""
    kind = "varchar" if isinstance(events[0][0], str) else "bigint"
    question = f"select hash(hash(cast(? as {kind}), cast(? as {kind}), cast(? as utinyint)))"
    with duckdb.connect() as connection:
        return {
            (user, item, behavior): connection.execute(question, [user, item, SHOP.index(behavior)]).fetchall()[0][0]
            for user, item, behavior, _ in events
        }


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Few users and items, many ties, many target events, now and then an event several times; ids are whole numbers
    or strings."""
    users, items, last = draw(st.sampled_from([(4, 7, 12), (2, 3, 4), (2, 12, 1), (1, 2, 3), (2, 8, 20)]))
    event = st.tuples(
        st.integers(1, users), st.integers(1, items), st.sampled_from([*SHOP, "buy", "buy"]), st.integers(0, last)
    )
    rows = draw(st.lists(event, min_size=1, max_size=60, unique=True))
    rows += draw(st.one_of(st.just([]), st.lists(st.sampled_from(rows), max_size=20)))
    if draw(st.booleans()):
        return [(f"u{user}", f"i{item}", behavior, time) for user, item, behavior, time in rows]
    return list(rows)


@pytest.mark.slow
@given(
    events=logs(),
    consumed_by=st.sampled_from([(), (), SHOP, ("buy",), ("cart", "buy")]),
    core=st.sampled_from([(1, 1), (1, 1), (2, 1), (2, 3), (5, 4)]),
    unseen=st.booleans(),
    candidates=st.sampled_from([1, 3, 20]),
)
@settings(max_examples=60)
def test_snapshot_is_what_the_oracle_says(
    events: list[Event], consumed_by: tuple[str, ...], core: tuple[int, int], unseen: bool, candidates: int
) -> None:
    ties = hash_ties(events)
    expected = Expected(events, SHOP, "buy", consumed_by, core, lambda event: ties[event[:3]], unseen)
    with tempfile.TemporaryDirectory() as home:
        try:
            snapshot = make_snapshot(
                Path(home),
                events,
                repeats=not consumed_by,
                consumed_by=consumed_by,
                splits=SPLITS,
                k_core={"user": core[0], "item": core[1]},
                unseen=unseen,
                candidates=candidates,
            )
        except DataError:
            assert not any(expected.may.values()), "refused a log that has targets"
            return
        compare(snapshot, expected)


@pytest.mark.slow
@given(days=st.lists(logs(), min_size=2, max_size=3), core=st.sampled_from([(1, 1), (2, 2)]))
@settings(max_examples=25)
def test_ids_stay_when_events_are_added(days: list[list[Event]], core: tuple[int, int]) -> None:
    """A snapshot after every delivery; each brings rows of any time, so late ones too."""
    known: tuple[list[Any], list[Any]] = ([], [])
    events: list[Event] = [
        ("u1", "i1", "buy", 3),
        ("u1", "i1", "view", 3),
        ("u1", "i2", "buy", 4),
        ("u2", "i2", "buy", 4),
    ]
    events += [("u2", "i1", "buy", 5)]
    with tempfile.TemporaryDirectory() as home:
        for day in days:
            events = [*events, *((f"u{e[0]}", f"i{e[1]}", e[2], e[3]) for e in day)]
            ties = hash_ties(events)
            expected = Expected(events, SHOP, "buy", (), core, lambda e, ties=ties: ties[e[:3]], known=known)
            s = snapshot_run(Path(home), splits=SPLITS, candidates=3, k_core={"user": core[0], "item": core[1]})
            snapshot = Snapshot(build(s, publish_events(s.paths.events(s.name), events)).snapshot)
            compare(snapshot, expected)
            numbering = snapshot.manifest.vocabulary
            assert numbering is not None
            assert numbering.generation == 1
            assert numbering.new_users == len(expected.users) - len(known[0])
            assert numbering.new_items == len(expected.items) - len(known[1])
            known = (expected.users, expected.items)


def compare(snapshot: Snapshot, expected: Expected) -> None:
    assert snapshot.users["user_id"].to_pylist() == expected.users
    assert snapshot.items["item_id"].to_pylist() == expected.items
    assert snapshot.items["first_seen"].to_pylist() == [moment(expected.first_seen[item]) for item in expected.items]
    assert sequences_of(snapshot) == expected.sequences
    assert [tuple(map(int, row)) for row in snapshot.hbi] == expected.hbi
    for split in SPLITS:
        compare_split(snapshot, expected, split)
        check_promises(snapshot, split)


def compare_split(snapshot: Snapshot, expected: Expected, split: str) -> None:
    users, items, offsets = expected.users, expected.items, snapshot.offsets
    of_users = [expected.split(split, user) for user in users]
    assert (snapshot.train_end(split) - offsets[:-1]).tolist() == [trained for _, _, trained in of_users]
    trained_items = {
        event[1]
        for user, (_, _, trained) in zip(users, of_users, strict=True)
        for event in expected.sequences[user][:trained]
    }
    for number, part in enumerate(PARTS):
        targets = snapshot.targets(split, part)
        places = [(user, place) for user, found in zip(users, of_users, strict=True) for place in found[number]]
        assert [
            (users[user], int(event - offsets[user])) for user, event in zip(targets.user, targets.event, strict=True)
        ] == places
        drawn = snapshot.candidates(split, targets)
        for n, (user, place) in enumerate(places):
            history, item = expected.history(split, user, place), expected.sequences[user][place][1]
            admissible, catalog = expected.admissible(split, user, place)
            assert items[targets.item[n]] == item
            assert targets.history_end[n] - offsets[targets.user[n]] == len(history)
            assert targets.catalog[n] == catalog
            assert targets.repeat[n] == (item in {event[1] for event in history})
            assert targets.cold_user[n] == (not history)
            assert targets.cold_item[n] == (item not in trained_items)
            found = [items[candidate] for candidate in drawn[n] if candidate >= 0]
            assert len(set(found)) == len(found) == min(len(admissible), snapshot.manifest.candidates)
            assert set(found) <= admissible
            assert np.all(drawn[n][len(found) :] == -1), "nulls come last"


def check_promises(snapshot: Snapshot, split: str) -> None:
    """What each split promises, read off the files alone."""
    ends, time, offsets = snapshot.train_end(split), snapshot.time, snapshot.offsets
    first_seen = snapshot.items["first_seen"].cast("int64").to_numpy()
    trained = [time[start:end] for start, end in zip(offsets, ends, strict=False)]
    asked: dict[str, dict[int, list[int]]] = {part: {} for part in PARTS}
    for part in PARTS:
        targets = snapshot.targets(split, part)
        drawn = snapshot.candidates(split, targets)
        for n, (user, event) in enumerate(zip(targets.user, targets.event, strict=True)):
            assert snapshot.behavior[event] == snapshot.target_behavior
            assert snapshot.item[event] == targets.item[n]
            assert offsets[user] <= ends[user] <= event < offsets[user + 1], "a target is not trained on"
            assert offsets[user] <= targets.history_end[n] <= event
            negatives = drawn[n][drawn[n] >= 0]
            assert len(set(negatives)) == len(negatives)
            assert targets.item[n] not in negatives
            assert (negatives < targets.catalog[n]).all()
            if split != "published":
                assert (time[offsets[user] : targets.history_end[n]] < time[event]).all()
                assert (first_seen[: targets.catalog[n]] < time[event]).all()
            asked[part].setdefault(int(user), []).append(int(time[event]))
    if split == "leave_one_out":
        for user, times in asked["validation"].items():
            assert len(times) == 1
            assert (trained[user] < times[0]).all()
        for user, times in asked["test"].items():
            assert len(times) == 1
            assert asked["validation"][user][0] < times[0]
    if split == "temporal":
        before = [int(times.max()) for times in trained if len(times)]
        moments = [[time for times in asked[part].values() for time in times] for part in PARTS]
        assert max(before, default=-(2**63)) < min([*moments[0], *moments[1]])
        assert max(moments[0], default=-(2**63)) < min(moments[1])
    if split == "published":
        assert asked["validation"] == asked["test"]
