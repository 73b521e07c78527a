"""The fast way gives what the exact statement gives, for good rows, bad rows and rows in between."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipeline.ingest.reading import read_file
from pipeline.sources import RawFile, kuairand, source
from pipeline.storage.statements import statement
from tests.pipeline.sources import test_kuairand
from tests.support.raw_logs import lines, write

ROWS = [
    *test_kuairand.MANY,
    *test_kuairand.REASONS,
    *(test_kuairand.impression(name) for name in test_kuairand.FLAGS),
    test_kuairand.impression(tail="0.5,0,0,0,1"),
    test_kuairand.impression(time=f"000{test_kuairand.START}"),
    test_kuairand.impression(time=f"000{test_kuairand.START // 1000}"),
    test_kuairand.impression(time=0),
]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("rows", [ROWS, test_kuairand.MANY], ids=["all kinds", "plain"])
def test_both_ways_give_the_same(tmp_path: Path, rows: list[str], end: str) -> None:
    layout = kuairand.LAYOUT
    path = write(tmp_path / "log.csv", lines([test_kuairand.HEADER, *rows]).replace("\n", end))
    fast = parsed("kuairand", RawFile(path, path.name, layout), tmp_path)
    exact = parsed("kuairand", RawFile(path, path.name, replace(layout, plain=None)), tmp_path)
    assert fast == exact
    assert len(exact) == len(rows)


def parsed(dataset: str, file: RawFile, spill: Path) -> list[tuple[Any, ...]]:
    """Line number, fault and, of good rows, the typed columns."""
    with _engine(dataset, spill) as connection:

        def keep() -> None:
            connection.execute("insert into kept by name select * exclude (line) from parsed")

        connection.execute(
            "create table kept (source_row bigint, fault varchar, user_id bigint, item_id bigint, behavior behavior, "
            "time_us bigint, category_id bigint, value double)"
        )
        read_file(connection, file, keep)
        found: list[tuple[Any, ...]] = connection.execute(
            "select source_row, fault, if(fault is null, kept, null) from kept order by source_row"
        ).fetchall()
        return found


@contextmanager
def _engine(dataset: str, spill: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"temp_directory": str(spill), "threads": 2}) as connection:
        words = ", ".join(f"'{word}'" for word in source(dataset).BEHAVIORS)
        connection.execute(f"create type behavior as enum ({words})")
        connection.execute(statement("ingest/00_faults"))
        yield connection
