"""Runs statements of ``sql/snapshot``: each file is one ``select`` that becomes the table or view of its name.

``sql/snapshot/30_users.sql`` becomes ``users``. A statement gets its parameters from DuckDB variables
(``getvariable('x')``), which :meth:`Warehouse.set` assigns, and its inputs from tables and views made before it; its
text is never edited.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.storage.statements import statement

PARQUET = "format parquet, parquet_version v2, compression zstd, compression_level 1"
"""Delta encodings and the least level: smaller than version 1 at its usual level, and twice as fast to write."""


class Warehouse:
    """A DuckDB connection that knows the statements of the snapshot."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, temporary: bool = False) -> None:
        """
        Args:
            temporary: whether tables and views made here are seen here only.
        """
        self._connection = connection
        self._lifetime = "temp " if temporary else ""
        self._variables: dict[str, Any] = {}

    @contextmanager
    def beside(self) -> Iterator["Warehouse"]:
        """For another thread: begins with this one's variables, tables and views; what it makes itself dies with it."""
        with self._connection.cursor() as connection:
            other = Warehouse(connection, temporary=True)
            other.set(**self._variables)  # DuckDB keeps variables per connection
            yield other

    @contextmanager
    def within(self, schema: str) -> Iterator[None]:
        """Tables and views made inside are of that schema, and those of the same names outside are left as they are;
        what is not in it is found outside."""
        self._connection.execute(f"create schema if not exists {quoted(schema)}")
        self._connection.execute(f"set search_path = {literal(quoted(schema) + ',main')}")
        try:
            yield
        finally:
            self._connection.execute("set search_path = 'main'")

    def set(self, **variables: Any) -> None:
        """Assign the variables that statements read with ``getvariable``."""
        self._variables |= variables
        for name, value in variables.items():
            self._connection.execute(f"set variable {name} = ?", [value])

    def table(self, name: str, name_as: str = "") -> None:
        """Run ``sql/snapshot/<name>.sql`` now and keep its rows."""
        self._create("table", name, name_as)

    def view(self, name: str, name_as: str = "") -> None:
        """Run ``sql/snapshot/<name>.sql`` whenever its view is read."""
        self._create("view", name, name_as)

    def view_of(self, name: str, query: str) -> None:
        """A view over ``query``."""
        self._connection.execute(f"create or replace {self._lifetime}view {name} as {query}")

    def table_of(self, name: str, query: str) -> None:
        """The rows of ``query`` as a table."""
        self._connection.execute(f"create or replace {self._lifetime}table {name} as {query}")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """All rows of ``query``."""
        found: list[tuple[Any, ...]] = self._connection.execute(query).fetchall()
        return found

    def value(self, query: str) -> Any:
        """The one value of the one row of ``query``."""
        return self.rows(query)[0][0]

    def arrow(self, query: str) -> pa.Table:
        """``query`` as an Arrow table."""
        return self._connection.sql(query).to_arrow_table()

    def write(self, source: str, columns: Mapping[str, str], order_by: str, path: Path) -> None:
        """Write ``source`` as Parquet, in an order that must be total: then the bytes depend on the content alone.

        Args:
            columns: column of the file -> expression over ``source``.
        """
        chosen = ", ".join(f"{expression} as {quoted(name)}" for name, expression in columns.items())
        self._connection.execute(
            f"copy (select {chosen} from {source} order by {order_by}) to {literal(str(path))} ({PARQUET})"
        )

    def _create(self, kind: str, name: str, name_as: str) -> None:
        known = name_as or name.split("_", 1)[1]
        self._connection.execute(f"create or replace {self._lifetime}{kind} {known} as {statement(f'snapshot/{name}')}")


def quoted(name: str) -> str:
    """``name`` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """``text`` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"
