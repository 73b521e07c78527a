"""What the page says of raw columns is what they do: a changed value changes the event columns that it names, and no
others."""

import json
import os
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.ingest.lines import sample
from pipeline.lineage.graph import Column
from pipeline.lineage.raw import RAW
from pipeline.lineage.wiring import EVENTS
from pipeline.settings import RetrainSettings
from pipeline.simulate import simulate
from pipeline.sources import Layout, delivery, source_of
from pipeline.storage.statements import statement
from tests.pipeline.lineage.test_wiring import graphs
from tests.pipeline.simulate.logs import CASES
from tests.pipeline.simulate.test_accounts import settings
from tests.support.unit_rows import prepare

EVENT = {
    "user_id": "user_id",
    "item_id": "item_id",
    "behavior": "behavior",
    "time_us": "event_time",
    "category_id": "category_id",
    "value": "value",
}
"""Column of a typed row -> of an event."""
ROWS = 30
VALUES = 8
"""Rows that are changed, and values that are tried of each column."""

Row = Any
"""A line's parts, or an object."""


@pytest.mark.parametrize(("source", "layout"), CASES)
def test_raw_columns_change_what_the_lineage_says(tmp_path: Path, source: str, layout: str) -> None:
    out = simulate(source, tmp_path / "log", users=80, items=60, seed=5, layout=layout)
    s = settings(out, tmp_path)
    for file in delivery(source_of(s), out):
        (graph,) = graphs(source, {file.layout.name.split(" (")[0]})
        told = {
            name: {event for event in EVENT.values() if Column(RAW, name) in graph.origins(Column(EVENTS, event))}
            for name in graph.given[RAW]
        }
        assert influence(s, file.layout, file.path, graph.given[RAW]) == told


def influence(s: RetrainSettings, layout: Layout, path: Path, names: Sequence[str]) -> dict[str, set[str]]:
    """Raw column -> the event columns that follow it: other rows' values are put into it, one at a time."""
    rows, change, write = read(s, layout, path, names)
    found: dict[str, set[str]] = {name: set() for name in names}
    tried, changed = [], []
    for number, row in enumerate(rows[:ROWS]):
        for name in names:
            for value in list(dict.fromkeys(change(other, name) for other in rows))[:VALUES]:
                copy = deepcopy(row)
                change(copy, name, value)
                tried.append(copy)
                changed.append((number, name))
    typed = parsed(s, layout, write([*rows[:ROWS], *tried]))
    for (number, name), made in zip(changed, typed[ROWS:], strict=True):
        if made["fault"] is None and typed[number]["fault"] is None:
            found[name] |= {event for column, event in EVENT.items() if made[column] != typed[number][column]}
    return found


def read(
    s: RetrainSettings, layout: Layout, path: Path, names: Sequence[str]
) -> tuple[list[Row], Callable[..., Any], Callable[[list[Row]], Any]]:
    """The rows of a file; what reads or, given a value, writes one of their columns; what makes raw rows of them."""
    mapped = s.table.mapped if s.table else {name: name for name in names}
    if layout.format == "parquet":
        rows: list[Row] = pq.read_table(path).to_pylist()
        schema = pq.read_schema(path)
        return (
            rows,
            lambda row, name, *value: _key(row, [mapped[name]], *value),
            lambda made: pa.Table.from_pylist(made, schema),
        )
    lines = [line for _, line in sample(path, 100_000)[bool(layout.header) :]]
    if layout.format == "json":
        objects = [json.loads(line) for line in lines]
        return (
            objects,
            lambda row, name, *value: _key(row, mapped[name].split("."), *value),
            lambda made: [json.dumps(one) for one in made],
        )
    order = [column.name for column in layout.columns] if s.table is None else list(layout.header)
    split = layout.split if s.table is None else lambda line: line.split(layout.separator)
    places = {name: [order.index(mapped[name])] for name in names}
    return (
        [split(line) for line in lines],
        lambda row, name, *value: _key(row, places[name], *value),
        lambda made: [layout.separator.join(one) for one in made],
    )


def _key(row: Row, path: Sequence[Any], *value: Any) -> Any:
    *outer, last = path
    for key in outer:
        row = row[key]
    if value:
        row[last] = value[0]
    return row[last]


def parsed(s: RetrainSettings, layout: Layout, raw: Any) -> list[dict[str, Any]]:
    """What the layout's statements make of raw rows; without the files beside them, which lines are joined to."""
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        prepare(connection, source_of(s).BEHAVIORS)
        for name, value in {**layout.variables, "businesses": os.devnull}.items():
            connection.execute(f"set variable {name} = ?", [value])
        if layout.format == "parquet":
            connection.register("read", raw)
            connection.execute("create table rows as select row_number() over () as source_row, * from read")
        else:
            connection.execute(
                "create table lines as select unnest(range(1, len(?) + 1)) as source_row, unnest(?::text[]) as line",
                [raw, raw],
            )
        for view, name in layout.before:
            connection.execute(f"create table {view} as {statement(name)}")
        found = connection.execute(f"select * from ({statement(layout.statement)}) order by source_row")
        names = [column[0] for column in found.description or []]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
