"""The raw rows of one delivery, typed, with a reason on every one that is no event; on disk until they are written."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from hmar.errors import HmarError
from pipeline.ingest.reading import read_file
from pipeline.settings import IngestSettings
from pipeline.sources import RawFile, Reason, Source
from pipeline.storage.statements import statement

BLANK = "blank"

BUFFERED = 131_072
"""Rows that a thread holds back before it appends them to the pieces they belong to."""

_TYPES = {"int64": "bigint", "string": "varchar"}
_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""What DuckDB calls the directory of rows whose partition column is null."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Rejection(NamedTuple):
    """Rows of one file that share a reason."""

    file: str
    reason: str
    rows: int
    first_row: int
    first_raw: str | None


class Arrival(NamedTuple):
    """Good rows of one file in one partition."""

    event_date: date
    file: str
    rows: int
    outside_window: int


class Candidates:
    """The rows of the delivered files in Parquet below ``scratch``: the rejected ones, and pieces of good ones.

    All rows of a partition are in one piece, and a piece is small enough to be looked at several times. The connection
    then has the types, macros and tables that the statements in ``sql/ingest`` refer to.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        origin: Source,
        files: Sequence[RawFile],
        names: Sequence[str],
        scratch: Path,
    ) -> None:
        """
        Args:
            names: of all raw files whose rows may be among the events, earlier ones included; in order.
            scratch: an empty directory.
        """
        self.connection = connection
        self.files = files
        self.lines: dict[str, int] = {}
        """Lines read, by file, the header left out."""
        self.scratch = scratch
        self.empty = scratch / "no_events.parquet"
        """An event file without a row."""
        self._columns = {
            "user_id": _TYPES[origin.USER_ID_TYPE],
            "item_id": _TYPES[origin.ITEM_ID_TYPE],
            "category_id": _TYPES[origin.CATEGORY_ID_TYPE],
        }
        # In alphabetical order, so that the codes sort like the names and a sort needs only the codes.
        connection.execute(f"create type behavior as enum ({literals(sorted(origin.BEHAVIORS))})")
        connection.execute(f"create type source_file as enum ({literals(names)})")
        connection.execute(f"create type reason as enum ({literals([*Reason, BLANK])})")
        for name in ("00_faults", "01_table", "04_partition_of", "05_nothing"):
            connection.execute(statement(f"ingest/{name}"))
        for column, kind in self._columns.items():
            connection.execute(f"alter table nothing alter {column} type {kind}")
        connection.execute(
            f"copy (select * replace (cast(source_file as varchar) as source_file) from nothing where false) "
            f"to {literal(self.empty)} (format parquet)"
        )
        none = scratch / "file=0" / "call-0" / "reason=blank" / f"piece={_NO_VALUE}" / "none.parquet"
        none.parent.mkdir(parents=True)
        connection.execute(
            "copy (select cast(null as bigint) as source_row, cast(null as varchar) as raw where false) "
            f"to {literal(none)} (format parquet)"
        )
        connection.execute(f"set partitioned_write_flush_threshold = {BUFFERED}")
        self.set(names=[file.name for file in files])

    def read(self, settings: IngestSettings) -> None:
        """Read the raw files.

        Raises:
            DataError: a file is damaged or no text.
        """
        self.set(
            since=_microseconds(settings.since),
            until=_microseconds(settings.until),
            outside_window=settings.outside_window,
            partition=settings.partition,
        )
        for number, file in enumerate(self.files, start=1):
            directory = self.scratch / f"file={number}"
            directory.mkdir()
            self._directory = directory
            self.lines[file.name] = read_file(self.connection, file, self._keep)
        self.set(rejected=[str(path) for path in self._paths() if not _is_good(path)])
        self.view("rejected", "ingest/52_rejected")

    def rejections(self) -> list[Rejection]:
        """Where the rows went that are no events, blank lines among them."""
        return [Rejection(*row) for row in self.rows("ingest/60_rejections")]

    def pieces(self) -> list[list[Path]]:
        """The files of each piece."""
        found: dict[str, list[Path]] = {}
        for path in self._paths():
            if _is_good(path):
                found.setdefault(path.parent.name, []).append(path)
        return [found[piece] for piece in sorted(found)]

    def open(self, piece: Sequence[Path]) -> list[Arrival]:
        """Make the view ``delivered`` the rows of a piece; what it holds, by partition and file."""
        self.set(piece=[str(path) for path in piece])
        self.view("delivered", "ingest/40_delivered")
        return [Arrival(*row) for row in self.rows("ingest/61_delivered")]

    def metrics(self, events: Sequence[Path]) -> dict[str, Any]:
        """One value per column of ``sql/ingest/64_metrics.sql``, over the given event files."""
        self.set(events=[str(path) for path in [self.empty, *events]])
        cursor = self.connection.execute(statement("ingest/64_metrics"))
        names = [column[0] for column in cursor.description or []]
        return dict(zip(names, cursor.fetchall()[0], strict=True))

    def rows(self, name: str) -> list[tuple[Any, ...]]:
        """What a statement gives."""
        found: list[tuple[Any, ...]] = self.connection.execute(statement(name)).fetchall()
        return found

    def view(self, view: str, name: str) -> None:
        """Make a view of a statement."""
        self.connection.execute(f"create or replace view {view} as {statement(name)}")

    def set(self, **variables: Any) -> None:
        """Set what statements read by ``getvariable``."""
        for name, value in variables.items():
            self.connection.execute(f"set variable {name} = ?", [value])

    def _keep(self) -> None:
        typed = ", ".join(f"cast({column} as {kind}) as {column}" for column, kind in self._columns.items())
        number = sum(1 for _ in self._directory.iterdir())
        self.connection.execute(
            f"copy (select * replace ({typed}) from ({statement('ingest/30_candidates')})) "
            f"to {literal(self._directory / f'call-{number}')} "
            "(format parquet, partition_by (reason, piece), compression lz4, parquet_version v2, "
            "dictionary_size_limit 16)"
        )

    def _paths(self) -> list[Path]:
        return sorted(self.scratch.glob("file=*/call-*/reason=*/piece=*/*.parquet"))


def check_lines(lines: Mapping[str, int], accounted: Mapping[str, int], files: Sequence[RawFile]) -> None:
    """Hold the lines that were counted while reading against those that became something.

    Raises:
        HmarError: a line is missing or counted twice (a defect of this program, nothing is published).
    """
    for file in files:
        if lines[file.name] != accounted.get(file.name, 0):
            raise HmarError(
                f"{file.path}: {lines[file.name]} lines were read but {accounted.get(file.name, 0)} are accounted "
                "for; nothing was published"
            )


def literal(value: object) -> str:
    """A text constant of SQL."""
    return "'" + str(value).replace("'", "''") + "'"


def literals(values: Sequence[object]) -> str:
    """A list of text constants of SQL."""
    return ", ".join(map(literal, values))


def _is_good(path: Path) -> bool:
    """Whether the rows of a file are without a reason, hence good."""
    return path.parent.parent.name == f"reason={_NO_VALUE}"


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - EPOCH) // timedelta(microseconds=1)
