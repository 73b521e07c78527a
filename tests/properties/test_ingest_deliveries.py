"""However a log is cut into files and delivered, it is the same events: against a few lines of plain Python."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.storage.events_store import read_manifest
from tests.support.raw_logs import DAY, START, contents, land_and_publish, lines, read_events, write
from tests.support.raw_logs import settings as run_settings

MIDNIGHT = START + 8 * 3600
Log = dict[str, list[str]]
"""Lines by file name."""


def oracle(files: Log, identical: str) -> tuple[set[tuple[object, ...]], dict[str, tuple[int, int, int, int]]]:
    """Events with file and line; per file its rows, events, duplicates and quarantined rows."""
    first: dict[tuple[str, ...], str] = {}
    events: set[tuple[object, ...]]
    for name in sorted(files):
        first.setdefault(tuple(files[name]), name)
    repeated = {name for name in files if identical == "event" and first[tuple(files[name])] != name}
    rows, bad = [], Counter[str]()
    for name in files.keys() - repeated:
        for number, line in enumerate(files[name], start=1):
            parts = line.split(",")
            if len(parts) == 5:
                user, item, category, behavior, time = parts
                rows.append((int(user), int(item), behavior, int(time), int(category), name, number))
            else:
                bad[name] += 1
    if identical == "event":
        events = {*rows}
    else:
        best: dict[tuple[object, ...], tuple[object, ...]] = {}
        for row in sorted(rows, key=lambda row: row[4:]):
            best.setdefault(row[:4], row)
        events = {*best.values()}
    kept = Counter(row[5] for row in events)
    return events, {
        name: (len(text), kept[name], len(text) - kept[name] - bad[name], bad[name]) for name, text in files.items()
    }


row = st.builds(
    "{},{},{},{},{}".format,
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.sampled_from(["pv", "buy"]),
    st.sampled_from([MIDNIGHT + day * DAY + second for day in range(3) for second in (0, 1)]),
)  # fmt: skip
line = st.one_of(row, row, row, row, st.just("1,2"))
text = st.builds(lambda head, rest: [head, head, *rest], row, st.lists(line, max_size=12)).filter(
    lambda rows: sum(row == "1,2" for row in rows) * 2 < len(rows)
)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Up to four files, some of them copies of others."""
    files = {
        f"{name}.csv": rows for name, rows in zip("bdfh", draw(st.lists(text, min_size=1, max_size=4)), strict=False)
    }
    for name in draw(st.lists(st.sampled_from("aceg"), max_size=2, unique=True)):
        files[f"{name}.csv"] = files[draw(st.sampled_from(sorted(files)))]
    return files


def deliver(files: Log, batches: Sequence[Sequence[str]], folder: Path, threads: int, identical: str) -> Path:
    """Append the batches one after the other; the directory of the events."""
    home = folder / "home"
    for number, batch in enumerate(batches):
        for name in batch:
            write(folder / f"batch-{number}" / name, lines(files[name]))
        landed = land_and_publish(
            run_settings(
                "taobao",
                folder / f"batch-{number}" / "*.csv",
                home,
                engine={"threads": threads, "memory_limit": "1GB"},
                ingest={"mode": "append", "identical_rows": identical, "partition": "day"},
            )
        )
        assert landed.accounts.rows == landed.accounts.events + landed.accounts.duplicates + landed.accounts.quarantined
    return home / "events" / "dataset=taobao"


@pytest.mark.slow
@settings(max_examples=25)
@given(files=logs(), identical=st.sampled_from(["duplicate", "event"]), data=st.data())
def test_any_order_of_deliveries_gives_what_the_oracle_says(files: Log, identical: str, data: st.DataObject) -> None:
    """In any batches, some files more than once, on any number of threads."""
    seen = []
    for threads in data.draw(st.permutations([1, 2, 4]))[:2]:
        order = data.draw(
            st.permutations(sorted(files) + data.draw(st.lists(st.sampled_from(sorted(files)), max_size=2)))
        )
        cuts = sorted(data.draw(st.sets(st.integers(1, len(order)), max_size=len(order) - 1)) | {0, len(order)})
        batches = [order[a:b] for a, b in pairwise(cuts)]
        with tempfile.TemporaryDirectory() as folder:
            events = deliver(files, batches, Path(folder), threads, identical)
            seen.append(contents(events))
            expected, accounts = oracle(files, identical)
            assert {
                (e.user_id, e.item_id, e.behavior, e.time, e.category_id, e.source_file, e.source_row)
                for e in read_events(events)
            } == expected
            manifest = read_manifest(events)
            assert {
                one.name: (one.rows, one.events, one.duplicates, one.quarantined) for one in manifest.inputs
            } == accounts
            assert manifest.accounts.rows == sum(map(len, files.values()))
    assert seen[0] == seen[1]


@pytest.mark.slow
@settings(max_examples=25)
@given(rows=text, data=st.data(), replaced=st.booleans())
def test_any_split_and_any_order_of_rows_have_one_digest(rows: list[str], data: st.DataObject, replaced: bool) -> None:
    """Of one log: as it is, and its rows shuffled, some of them twice, over several files in several deliveries."""
    good = [row for row in rows if row != "1,2"]
    again = data.draw(st.permutations(good + data.draw(st.lists(st.sampled_from(good), max_size=4))))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(again)), max_size=3)) | {0, len(again)})
    parts = {f"{number}.csv": again[a:b] for number, (a, b) in enumerate(pairwise(cuts))}
    batches = [list(parts)] if replaced else [[name] for name in parts]
    with tempfile.TemporaryDirectory() as folder:
        once = deliver({"log.csv": good}, [["log.csv"]], Path(folder) / "once", 1, "duplicate")
        split = deliver(parts, batches, Path(folder) / "split", 2, "duplicate")
        first, second = read_manifest(once), read_manifest(split)
        assert first.digest == second.digest
        assert [(one.event_date, one.content_digest) for one in first.partitions] == [
            (one.event_date, one.content_digest) for one in second.partitions
        ]
        assert second.accounts.duplicates == len(again) - first.accounts.events
