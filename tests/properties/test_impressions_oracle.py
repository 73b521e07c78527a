"""Any small log: the labelled impressions are what the plain-Python oracle says."""

import tempfile
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hmar.data.snapshot import PORTIONS, Snapshot
from hmar.errors import DataError
from pipeline.checks.snapshot_measures import measure
from tests.properties.test_snapshot_oracle import hash_ties, logs
from tests.support.events import Event, moment
from tests.support.impression_oracle import ExpectedImpressions
from tests.support.snapshot_oracle import Expected
from tests.support.tiny_snapshot import SHOP, make_snapshot


@pytest.mark.slow
@given(
    events=logs(),
    consumed_by=st.sampled_from([(), (), SHOP, ("buy",), ("cart", "buy")]),
    unseen=st.booleans(),
    negative=st.sampled_from([(), ("view",), ("view", "cart")]),
    sampled=st.integers(0, 3),
    source=st.sampled_from(["uniform", "popularity"]),
    tasks=st.sampled_from([(), ("view",), ("cart", "view")]),
)
@settings(max_examples=60)
def test_impressions_are_what_the_oracle_says(
    events: list[Event],
    consumed_by: tuple[str, ...],
    unseen: bool,
    negative: tuple[str, ...],
    sampled: int,
    source: str,
    tasks: tuple[str, ...],
) -> None:
    tasks = tasks if sampled else ()
    ties = hash_ties(events)
    expected = Expected(events, SHOP, "buy", consumed_by, (1, 1), lambda event: ties[event[:3]], unseen)
    options: dict[str, Any] = {"repeats": not consumed_by, "consumed_by": consumed_by, "unseen": unseen}
    options["impressions"] = {"negative": list(negative), "sampled": sampled, "sampled_from": source}
    options["impressions"]["tasks"] = list(tasks)
    with tempfile.TemporaryDirectory() as home:
        try:
            snapshot = make_snapshot(Path(home), events, **options)
        except DataError:
            assert not any(expected.may.values()), "refused a log that has targets"
            return
        if not negative and not sampled:
            assert not any(snapshot.has_impressions(split) for split in snapshot.manifest.splits)
            assert not (snapshot.path / "impressions.parquet").exists()
            return
        compare(snapshot, ExpectedImpressions(expected, ("buy",), negative), expected, sampled, source)
        assert snapshot.tasks("temporal") == ("buy", *tasks)
        for task in tasks:
            compare(snapshot, ExpectedImpressions(expected, (task,), ()), expected, sampled, source, task)
        found = measure(snapshot)
        assert found.pop("events") == len(snapshot.item)
        assert set(found.values()) == {0}, "the checks find nothing wrong"


def compare(
    snapshot: Snapshot, wanted: ExpectedImpressions, expected: Expected, sampled: int, source: str, task: str = ""
) -> None:
    users, items = expected.users, expected.items
    name = f"impressions-{snapshot.behaviors.index(task)}.parquet" if task else "impressions.parquet"
    rows = pq.read_table(snapshot.path / name).to_pylist()
    times = {moment(event[3]): event[3] for own in expected.sequences.values() for event in own}
    said: dict[tuple[Any, Any], dict[Any, int]] = {}
    drawn: dict[tuple[Any, Any], list[Any]] = {}
    number: dict[int, tuple[Any, Any]] = {}
    for row in rows:
        key = users[row["user"]], times[row["event_time"]]
        assert number.setdefault(row["moment"], key) == key
        past = [event for event in expected.sequences[key[0]] if event[3] < key[1]]
        assert row["history_end"] - snapshot.offsets[row["user"]] == len(past)
        if row["sampled"]:
            assert row["label"] == 0
            drawn.setdefault(key, []).append(items[row["item"]])
        else:
            said.setdefault(key, {})[items[row["item"]]] = row["label"]
    assert said == wanted.said
    assert sorted(number) == list(range(len(said)))
    assert [(row["moment"], row["item"]) for row in rows] == sorted({(row["moment"], row["item"]) for row in rows})
    for (user, time), answers in said.items():
        found = drawn.get((user, time), [])
        catalog = list(takewhile(lambda item, time=time: expected.first_seen[item] < time, items))  # type: ignore[misc]
        may = wanted.admissible(user, time, catalog)
        if source == "popularity":
            may &= {
                item for (_, t), said_then in wanted.said.items() if t < time for item, yes in said_then.items() if yes
            }
        assert len(set(found)) == len(found) <= sampled * sum(answers.values())
        assert set(found) <= may
        if may and sampled and any(answers.values()) and len(may) >= len(catalog) / 2:
            assert found, "hardly by chance: of ten draws and more none was admissible"
    for split in ("leave_one_out", "temporal"):
        parts = {
            (users[user], times[moment_of(time)]): part
            for part in PORTIONS
            for user, time in zip(*columns(snapshot, split, part, task), strict=True)
        }
        assert parts == wanted.parts(split)
        for part in PORTIONS:
            shown = snapshot.impressions(split, part, task)
            of_split = snapshot.manifest.splits[split]
            told = (of_split["tasks"][task] if task else of_split["impressions"])[part]
            assert snapshot.behaviors[shown.asked] == (task or "buy")
            assert told == {
                "moments": len(shown),
                "impressions": len(shown.item),
                "positive": int(shown.label.sum()),
                "sampled": int(shown.sampled.sum()),
            }


def columns(snapshot: Snapshot, split: str, part: Any, task: str) -> tuple[list[int], list[int]]:
    shown = snapshot.impressions(split, part, task)
    return shown.user.tolist(), shown.time.tolist()


def moment_of(microseconds: int) -> Any:
    """As Parquet gives it."""
    from datetime import UTC, datetime, timedelta

    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
