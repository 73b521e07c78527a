"""The raw rows of one delivery inside DuckDB, typed, with a reason on every one that is no event."""

import logging
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

import duckdb

from hmar.errors import HmarError
from pipeline.ingest.lines import LineBlocks
from pipeline.settings import IngestSettings
from pipeline.sources import RawFile, Reason, Source
from pipeline.storage.statements import statement

DUPLICATE = "duplicate"
BLANK = "blank"

log = logging.getLogger("pipeline.ingest")


class Fate(NamedTuple):
    """What became of the rows of one file that share a reason; None: they are events."""

    file_number: int
    reason: str | None
    rows: int
    outside_window: int
    first_row: int
    first_raw: str | None


class Span(NamedTuple):
    """One partition as it will be written."""

    event_date: date
    rows: int
    first_time: int
    last_time: int
    """Microseconds since 1970."""
    first_sum: int
    second_sum: int


class Candidates:
    """The table ``candidates`` and what is asked of it. Files are numbered from 1 in the order given."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, origin: Source, files: Sequence[RawFile]) -> None:
        self.connection = connection
        self.files = files
        self.lines: list[int] = []
        connection.execute(f"create type behavior as enum ({_literals(origin.BEHAVIORS)})")
        connection.execute(f"create type reason as enum ({_literals([*Reason, BLANK, DUPLICATE])})")
        connection.execute(statement("ingest/00_faults"))
        connection.execute(statement("ingest/05_candidates"))
        self._set(files=[file.name for file in files])

    def read(self, settings: IngestSettings) -> None:
        """Fill the table from the raw files.

        Raises:
            DataError: a file is damaged or no text.
        """
        self._set(
            since=_seconds(settings.since),
            until=_seconds(settings.until),
            outside_window=settings.outside_window,
            partition=settings.partition,
        )
        for number, file in enumerate(self.files, start=1):
            blocks = LineBlocks(file.path, skip_header=bool(file.layout.header))
            self._set(file_number=number, **file.layout.variables)
            self.connection.register("chunks", blocks.reader())
            self._view("lines", "ingest/10_lines")
            self._view("parsed", file.layout.statement)
            try:
                self.connection.execute(f"insert into candidates by name {statement('ingest/30_candidates')}")
            except duckdb.Error:
                if blocks.failure is not None:
                    raise blocks.failure from None
                raise
            self.lines.append(blocks.lines - bool(file.layout.header))
            if blocks.unterminated is not None:
                self._set(unterminated=blocks.unterminated)
                self._reject(Reason.CUT_LINE, "ingest/31_cut_line", blocks.unterminated_text)
        self._reject(DUPLICATE, "ingest/40_duplicates")

    def fates(self) -> list[Fate]:
        """Where the lines went, checked against the line ends that were counted while reading.

        Raises:
            HmarError: a line is missing or counted twice (a defect of this program, nothing is published).
        """
        found = [Fate(*row) for row in self._rows("ingest/60_accounts")]
        for number, (file, lines) in enumerate(zip(self.files, self.lines, strict=True), start=1):
            accounted = sum(fate.rows for fate in found if fate.file_number == number)
            if accounted != lines:
                raise HmarError(
                    f"{file.path}: {lines} lines were read but {accounted} are accounted for; nothing was published"
                )
        return found

    def spans(self) -> list[Span]:
        """The partitions, in time order."""
        return [Span(*row) for row in self._rows("ingest/61_partitions")]

    def behaviors(self) -> dict[str, int]:
        """Events by behavior."""
        return dict(self._rows("ingest/62_behaviors"))

    def metrics(self) -> dict[str, Any]:
        """One value per column of ``sql/ingest/63_metrics.sql``."""
        cursor = self.connection.execute(statement("ingest/63_metrics"))
        names = [column[0] for column in cursor.description or []]
        return dict(zip(names, cursor.fetchall()[0], strict=True))

    def _reject(self, reason: str, name: str, raw: str | None = None) -> None:
        self.connection.execute(f"create or replace table rejects as {statement(name)}")
        self.connection.execute(
            "update candidates set reason = cast(? as reason), raw = coalesce(raw, ?) "
            "where rowid in (select candidate from rejects)",
            [reason, raw],
        )

    def _rows(self, name: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.connection.execute(statement(name)).fetchall()
        return found

    def _view(self, view: str, name: str) -> None:
        self.connection.execute(f"create or replace view {view} as {statement(name)}")

    def _set(self, **variables: Any) -> None:
        for name, value in variables.items():
            self.connection.execute(f"set variable {name} = ?", [value])


def _literals(words: Sequence[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
