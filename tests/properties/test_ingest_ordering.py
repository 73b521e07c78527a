"""Rows of a piece in published order: in memory and through DuckDB they are the same rows in the same order."""

import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ingest.candidates import Candidates
from pipeline.ingest.ordering import ORDER, Earlier, in_memory, through_duckdb
from pipeline.settings import EngineSettings, IngestSettings
from pipeline.sources import RawFile, source
from pipeline.sources.taobao import LAYOUT
from pipeline.storage.engine import connect
from pipeline.storage.events_store import read_manifest
from tests.support.raw_logs import DAY, START, land_and_publish, lines
from tests.support.raw_logs import settings as run_settings

small = st.integers(1, 3)
rows = st.lists(
    st.tuples(small, small, small, st.sampled_from(["pv", "fav", "cart", "buy"]), st.integers(0, 3), st.integers(0, 2)),
    min_size=1,
    max_size=30,
).map(lambda found: lines(f"{u},{i},{c},{b},{START + 17 * DAY * d + s}" for u, i, c, b, s, d in found))
"""Days that share a piece: 16 apart, and one day off it."""


@pytest.mark.slow
@settings(max_examples=40)
@given(old=rows, new=st.lists(rows, min_size=1, max_size=3), displaced=st.booleans())
def test_memory_and_duckdb_order_alike(old: str, new: list[str], displaced: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home, raw = Path(folder) / "home", Path(folder) / "old.csv"
        raw.write_text(old)
        s = run_settings("taobao", raw, home, ingest={"since": None, "until": None})
        land_and_publish(s)
        events = s.paths.events(s.name)
        partitions = {one.event_date: one for one in read_manifest(events).partitions}
        earlier = Earlier(events, partitions, frozenset({"old.csv"} if displaced else ()))
        names = [f"{number}.csv" for number in range(len(new))]
        for name, text in zip(names, new, strict=True):
            (Path(folder) / name).write_text(text)
        files = [RawFile(Path(folder) / name, name, LAYOUT) for name in names]
        scratch = Path(folder) / "scratch"
        scratch.mkdir()
        with connect(EngineSettings(threads=2, memory_limit="500MB"), Path(folder)) as connection:
            candidates = Candidates(connection, source("taobao"), files, sorted([*names, "old.csv"]), scratch)
            candidates.read(IngestSettings())
            for piece in candidates.pieces():
                arrow, duck = (list(way(candidates, earlier, piece)) for way in (in_memory, through_duckdb))
                found = table(arrow, piece.dates)
                assert found == table(duck, piece.dates)
                assert found == sorted(found, key=key)


def table(batches: list[Any], dates: list[date]) -> list[tuple[Any, ...]]:
    found = []
    for batch in batches:
        columns = [batch.column("event_date"), *(batch.column(name) for name in ORDER)]
        columns[2] = columns[2].cast("int64")
        found += list(zip(*(column.to_pylist() for column in columns), strict=True))
    assert {row[0] for row in found} <= set(dates)
    return found


def key(row: tuple[Any, ...]) -> tuple[Any, ...]:
    day, user, time, item, behavior, value, category, file, number = row
    return (day, user, time, item, behavior, value is None, value or 0, category is None, category or 0, file, number)
