"""Given/expect rows beside a statement: ``sql/<folder>/<name>.yml`` is a list of cases.

A case of a statement::

    - name: what it shows
      variables: {target: 2}            # read by the statement with getvariable; optional
      files: {businesses: "text"}       # files with these texts, their paths in variables of these names; optional
      types: {user_id: varchar}         # where a column's type is not that of sql/columns.yml; optional. The key
                                        # event_files.behavior means the column of one relation, expect.behavior that
                                        # of the result
      given:                            # the relations it reads, with the columns it reads
        kept:
          columns: [user_id, event_time]
          rows:
            - [7, 2020-01-02 00:00:00]
      expect:                           # all rows, of these columns; in order where the statement orders
        columns: [user, user_id]
        rows:
          - [0, 7]

A relation that the statement reads from Parquet by the name of a variable is given like any other: it is written to
files and the variable names them. Those of its columns named in ``directories: [file]`` become directories.

A case of a macro has an expression in place of the relations; each row is what the expression reads and, last, what it
must give::

    - name: what it shows
      select: rating_fault(text)
      expect:
        columns: [text, fault]
        rows:
          - ["4.5", null]

Column types stand in ``sql/columns.yml``, times are UTC, and raw files are called a.csv, b.csv and c.csv.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import yaml

from pipeline.ingest.candidates import BLANK, literal, literals
from pipeline.sources import SOURCES, Reason

SQL = Path(__file__).parents[2] / "sql"
RAW_FILES = ("a.csv", "b.csv", "c.csv")
MACROS = ("00_faults", "01_table", "04_partition_of")

_EXPECTED = "expect"


@dataclass(frozen=True)
class Case:
    """One case of one statement."""

    statement: Path
    name: str
    expect: Mapping[str, Any]
    select: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.statement.parent.name}/{self.statement.stem}: {self.name}"


@dataclass(frozen=True)
class Result:
    """What a statement gave and what it should have, in comparable form."""

    found: list[tuple[Any, ...]]
    expected: list[tuple[Any, ...]]
    found_types: dict[str, str]
    expected_types: dict[str, str]


@cache
def columns() -> dict[str, dict[str, dict[str, str]]]:
    """The data dictionary: folder -> column -> {type, meaning}."""
    found: dict[str, dict[str, dict[str, str]]] = yaml.safe_load((SQL / "columns.yml").read_text(encoding="utf-8"))
    return found


def statements() -> list[Path]:
    """Every statement, in the order data flows."""
    return [*sorted((SQL / "ingest").glob("*.sql")), *sorted((SQL / "snapshot").glob("*.sql"))]


def cases() -> list[Case]:
    """The cases of all statements."""
    return [
        Case(statement=statement, **case)
        for statement in statements()
        if statement.with_suffix(".yml").exists()
        for case in yaml.safe_load(statement.with_suffix(".yml").read_text(encoding="utf-8"))
    ]


def run(case: Case) -> Result:
    """Run the statement, or the expression, over the given rows."""
    with duckdb.connect() as connection, tempfile.TemporaryDirectory() as directory:
        connection.execute("set timezone = 'UTC'")
        if case.statement.parent.name == "ingest":
            prepare(connection, sorted({word for source in SOURCES.values() for word in source.BEHAVIORS}))
        for name, text in case.files.items():
            (Path(directory) / name).write_text(text, encoding="utf-8")
            connection.execute(f"set variable {name} = ?", [str(Path(directory) / name)])
        for name, value in case.variables.items():
            connection.execute(f"set variable {name} = ?", [value])
        text = case.statement.read_text(encoding="utf-8")
        for relation, content in case.given.items():
            _table(connection, case, relation, content["columns"], content["rows"])
            if f"getvariable('{relation}')" in text:
                _to_files(connection, relation, content.get("directories", []), Path(directory) / f"{relation}-files")
        wanted = case.expect["columns"]
        _table(connection, case, _EXPECTED, wanted, case.expect["rows"])
        query = _macro_query(case) if case.select else f"select {_list(wanted)} from ({text})"
        found, found_types = _rows(connection, query)
        expected, expected_types = _rows(connection, f"select * from {_EXPECTED}")
    if "\norder by" not in text.lower().rsplit("select * from final", 1)[-1]:
        found, expected = sorted(found, key=repr), sorted(expected, key=repr)
    return Result(found, expected, found_types, {name: expected_types[name] for name in found_types})


def prepare(connection: duckdb.DuckDBPyConnection, behaviors: Sequence[str]) -> None:
    """The types and macros that ``pipeline.ingest.candidates`` makes."""
    for name, words in (("behavior", behaviors), ("source_file", RAW_FILES), ("reason", [*Reason, BLANK])):
        connection.execute(f"create type {name} as enum ({literals(words)})")
    for name in MACROS:
        connection.execute((SQL / "ingest" / f"{name}.sql").read_text(encoding="utf-8"))


def _macro_query(case: Case) -> str:
    *read, given = case.expect["columns"]
    return f"select {''.join(f'{column}, ' for column in map(_quoted, read))}{case.select} as {_quoted(given)} " + (
        f"from {_EXPECTED}"
    )


def _table(
    connection: duckdb.DuckDBPyConnection, case: Case, name: str, wanted: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    known = columns()[case.statement.parent.name]
    for column in wanted:
        assert column in known, f"sql/columns.yml, {case.statement.parent.name}: no column {column!r} ({case})"
    types = {column: case.types.get(column, known[column]["type"]) for column in wanted}
    types |= {column: case.types[f"{name}.{column}"] for column in wanted if f"{name}.{column}" in case.types}
    described = ", ".join(f"{_quoted(column)} {kind}" for column, kind in types.items())
    connection.execute(f"create table {name} ({described})")
    for row in rows:
        assert len(row) == len(wanted), f"{case}: {name} has a row of {len(row)} values for {len(wanted)} columns"
        connection.execute(f"insert into {name} values ({', '.join('?' * len(row))})", list(row))


def _to_files(connection: duckdb.DuckDBPyConnection, relation: str, directories: Sequence[str], target: Path) -> None:
    target.mkdir()
    if directories:
        options, place = f"format parquet, partition_by ({', '.join(directories)})", target
    else:
        options, place = "format parquet", target / "rows.parquet"
    connection.execute(f"copy {relation} to {literal(place)} ({options})")
    paths = sorted(str(path) for path in target.rglob("*.parquet"))
    connection.execute(f"set variable {relation} = ?", [paths])
    connection.execute(f"drop table {relation}")


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[list[tuple[Any, ...]], dict[str, str]]:
    types = {row[0]: row[1] for row in connection.execute(f"describe {query}").fetchall()}
    # Times as text: DuckDB needs a further package to make them Python's.
    chosen = ", ".join(
        f"cast({_quoted(name)} as varchar)" if kind == "TIMESTAMP WITH TIME ZONE" else _quoted(name)
        for name, kind in types.items()
    )
    # A column of nothing but nulls may be of no type.
    typed = {name: kind for name, kind in types.items() if kind != '"NULL"'}
    return connection.execute(f"select {chosen} from ({query})").fetchall(), typed


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(_quoted, names))


def _quoted(name: str) -> str:
    return f'"{name}"'
