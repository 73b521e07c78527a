"""A DuckDB connection that notes what is made of the statements of sql/."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from pipeline.settings import EngineSettings

SQL = Path(__file__).parents[2] / "sql"


class Made(NamedTuple):
    """One table or view, or a query whose rows went elsewhere (``relation`` is empty then)."""

    relation: str
    statement: str
    """Name of the file of sql/ that fills it; empty where code wrote the query itself."""
    query: str


class Spy:
    """Passes everything on."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, made: list[Made]) -> None:
        self._connection = connection
        self._made = made

    def execute(self, query: str, *arguments: Any) -> duckdb.DuckDBPyConnection:
        self._note(query)
        return self._connection.execute(query, *arguments)

    def sql(self, query: str, *arguments: Any) -> duckdb.DuckDBPyRelation:
        self._note(query)
        return self._connection.sql(query, *arguments)

    def register(self, name: str, rows: object) -> None:
        self._made.append(Made(name, "", ""))
        self._connection.register(name, rows)

    def cursor(self) -> "Spy":
        return Spy(self._connection.cursor(), self._made)

    def __enter__(self) -> "Spy":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def _note(self, query: str) -> None:
        text, name = next(((text, name) for text, name in _texts() if text in query), (query, ""))
        head = re.match(r"create (?:or replace )?(?:temp )?(?:view|table) (\w+) as ", query)
        if head:
            self._made.append(Made(head[1], name, text.removeprefix(head[0])))
        elif name or query.startswith(("copy", "select")):
            self._made.append(Made("", name, text))


def spying(
    connect: Callable[[EngineSettings, Path], AbstractContextManager[duckdb.DuckDBPyConnection]], made: list[Made]
) -> Callable[[EngineSettings, Path], AbstractContextManager[Spy]]:
    """``connect`` of :mod:`pipeline.storage.engine`, with a note of everything in ``made``."""

    @contextmanager
    def connected(settings: EngineSettings, spill_parent: Path) -> Iterator[Spy]:
        with connect(settings, spill_parent) as connection:
            yield Spy(connection, made)

    return connected


def _texts() -> list[tuple[str, str]]:
    return [(path.read_text(encoding="utf-8"), path.stem) for path in sorted(SQL.glob("*/*.sql"))]
