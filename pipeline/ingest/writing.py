"""From the table of candidates to Parquet: event partitions and the quarantine, equal content in equal bytes."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from pipeline.ingest.candidates import Candidates, Span
from pipeline.storage.events_store import Partition
from pipeline.storage.statements import statement

TOGETHER = 32
"""Partitions read from one table: more, and each would scan a log that is nearly all of other days."""
WRITERS = 3
"""Partitions written at the same time: sorting, compressing and writing take turns on the cores."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def write_partitions(candidates: Candidates, spans: Sequence[Span], directory: Path) -> tuple[Partition, ...]:
    """Write one Parquet file per span as ``event_date=<day>/<start of sha256>.parquet`` under ``directory``.

    Bytes depend on the events and on DuckDB's version alone, not on threads or on the order of raw rows.
    """
    connection = candidates.connection
    connection.execute("set preserve_insertion_order = true")
    written: list[Partition] = []
    for group in _groups(spans):
        _select_group(connection, group, everything=len(group) == len(spans))
        with ThreadPoolExecutor(WRITERS) as pool:
            written += pool.map(lambda span: _write(candidates, span, directory), group)
    return tuple(written)


def write_quarantine(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Write source_file, source_row, reason and raw of every rejected row to ``path``."""
    connection.execute("set preserve_insertion_order = true")
    connection.execute(
        f"copy ({statement('ingest/51_quarantine')}) to '{_quoted(path)}' (format parquet, compression zstd)"
    )


def content_digest(sums: Sequence[tuple[int, int, int]]) -> str:
    """The digest of the union of disjoint parts, each given as (rows, first sum, second sum)."""
    rows, first, second = (sum(part[i] for part in sums) for i in range(3))
    return hashlib.sha256(f"{rows} {first} {second}".encode()).hexdigest()


def sums_of(span: Span) -> tuple[int, int, int]:
    """What :func:`content_digest` takes."""
    return span.rows, int(span.first_sum), int(span.second_sum)


def _groups(spans: Sequence[Span]) -> list[tuple[Span, ...]]:
    return [tuple(spans[start : start + TOGETHER]) for start in range(0, len(spans), TOGETHER)]


def _select_group(connection: duckdb.DuckDBPyConnection, group: Sequence[Span], everything: bool) -> None:
    """Make ``batch`` the events of ``group``: a view where that is all of them, else a table of its own.

    The table too gets the row of nulls that ``candidates`` has.
    """
    if everything:
        connection.execute("create or replace view batch as select * from candidates where reason is null")
        return
    connection.execute(
        "create or replace table batch as select * from candidates "
        "where file_number = 0 or (reason is null and event_date between ? and ?)",
        [group[0].event_date, group[-1].event_date],
    )


def _write(candidates: Candidates, span: Span, directory: Path) -> Partition:
    folder = directory / f"event_date={span.event_date}"
    folder.mkdir()
    path = folder / "writing.parquet"
    # A cursor is a connection of its own to the same database: variables are per connection.
    with candidates.connection.cursor() as cursor:
        cursor.execute("set timezone = 'UTC'")
        cursor.execute("set variable files = ?", [[file.name for file in candidates.files]])
        cursor.execute("set variable event_date = ?", [span.event_date])
        cursor.execute(
            f"copy ({statement('ingest/50_events')}) to '{_quoted(path)}' (format parquet, compression zstd)"
        )
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    final = folder / f"{sha256[:16]}.parquet"
    path.rename(final)
    return Partition(
        event_date=span.event_date,
        path=final.relative_to(directory).as_posix(),
        rows=span.rows,
        content_digest=content_digest([sums_of(span)]),
        sha256=sha256,
        bytes=final.stat().st_size,
        min_time=_EPOCH + timedelta(microseconds=span.first_time),
        max_time=_EPOCH + timedelta(microseconds=span.last_time),
    )


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
