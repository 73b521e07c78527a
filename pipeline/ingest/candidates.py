"""The raw rows of one delivery, typed, with a reason on every one that is no event; on disk until they are written."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb

from hmar.errors import HmarError
from pipeline.ingest.arrow import event_schema, streamed
from pipeline.ingest.reading import read_file
from pipeline.ingest.routing import Piece, Router
from pipeline.settings import IngestSettings
from pipeline.sources import RawFile, Reason, Source
from pipeline.storage.statements import statement

if TYPE_CHECKING:
    import pyarrow as pa

BLANK = "blank"

TYPES = {"int64": "bigint", "string": "varchar"}

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Rejection(NamedTuple):
    """Rows of one file that share a reason."""

    file: str
    reason: str
    rows: int
    first_row: int
    first_raw: str | None


class Candidates:
    """The rows of the delivered files on disk below ``scratch``: the rejected ones, and pieces of good ones.

    The connection then has the types, macros and views that the statements in ``sql/ingest`` refer to.
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
        self.names = names
        self.lines: dict[str, int] = {}
        """Lines read, by file, the header left out."""
        self.types = {
            "user_id": TYPES[origin.USER_ID_TYPE],
            "item_id": TYPES[origin.ITEM_ID_TYPE],
            "category_id": TYPES[origin.CATEGORY_ID_TYPE],
        }
        self.behaviors = sorted(origin.BEHAVIORS)
        self.partition = "day"
        self._scratch = scratch
        # In alphabetical order, so that the codes sort like the names and a sort needs only the codes.
        connection.execute(f"create type behavior as enum ({literals(self.behaviors)})")
        connection.execute(f"create type source_file as enum ({literals(names)})")
        connection.execute(f"create type reason as enum ({literals([*Reason, BLANK])})")
        for name in ("00_faults", "01_table", "04_partition_of"):
            connection.execute(statement(f"ingest/{name}"))

    def read(self, settings: IngestSettings) -> None:
        """Read the raw files.

        Raises:
            DataError: a file is damaged or no text.
        """
        self.partition = settings.partition
        self.set(
            since=_microseconds(settings.since),
            until=_microseconds(settings.until),
            outside_window=settings.outside_window,
            partition=settings.partition,
        )
        ((threads,),) = self.connection.execute("select current_setting('threads')").fetchall()
        self._router = Router(self._scratch, threads)
        try:
            for file in self.files:
                self.lines[file.name] = read_file(self.connection, file, partial(self._keep, file.name))
                self._router.end_file()
        finally:
            self._router.close()
        self.set(rejected=str(self._router.rejected))
        self.view("rejected", "ingest/52_rejected")

    def rejections(self) -> list[Rejection]:
        """Where the rows went that are no events, blank lines among them."""
        return [Rejection(*row) for row in self.rows("ingest/60_rejections")]

    def pieces(self) -> list[Piece]:
        """The good rows."""
        return self._router.pieces()

    def metrics(self, events: Sequence[Path]) -> dict[str, Any]:
        """One value per column of ``sql/ingest/64_metrics.sql``, over the given event files."""
        self.set(events=[str(path) for path in events or [self._no_events()]])
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

    def sums(self, events: "pa.Table") -> tuple[int, int]:
        """Two sums over hashes of the events: see ``sql/ingest/62_sums.sql``."""
        with self.connection.cursor() as connection:
            connection.execute("set timezone = 'UTC'")
            connection.register("events", events)
            ((first, second),) = connection.execute(statement("ingest/62_sums")).fetchall()
        return int(first), int(second)

    def set(self, **variables: Any) -> None:
        """Set what statements read by ``getvariable``."""
        for name, value in variables.items():
            self.connection.execute(f"set variable {name} = ?", [value])

    def _no_events(self) -> Path:
        """An event file without a row."""
        from pyarrow import parquet

        path = self._scratch / "no_events.parquet"
        parquet.ParquetWriter(path, event_schema(self.types)).close()
        return path

    def _keep(self, file: str) -> None:
        typed = ", ".join(f"cast({column} as {kind}) as {column}" for column, kind in self.types.items())
        query = f"select * replace ({typed}) from ({statement('ingest/30_candidates')})"
        self._router.route(file, streamed(self.connection, query))


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


def _microseconds(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - EPOCH) // timedelta(microseconds=1)
