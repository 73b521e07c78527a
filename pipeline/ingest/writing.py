"""From pieces of candidates to event files, equal content in equal bytes, together with what is published already."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import duckdb

from hmar.errors import HmarError
from pipeline.ingest.candidates import EPOCH, Arrival, Candidates, literal
from pipeline.settings import IngestSettings
from pipeline.storage.events_store import Partition
from pipeline.storage.statements import statement

WRITERS = 3
"""Small partitions written at the same time. A large one keeps every core busy alone."""
LARGE = 500_000
"""Rows from which a partition is large."""

_FORMAT = "format parquet, compression zstd, compression_level 1, parquet_version v2"
"""A higher level saves a tenth of the bytes and costs a seventh of the writing."""


@dataclass(frozen=True)
class Earlier:
    """What is published and stays, unless rows that are delivered now belong to the same partition."""

    events: Path
    partitions: Mapping[date, Partition] = field(default_factory=dict)
    displaced: frozenset[str] = frozenset()
    """Files whose rows leave the events: the same content is delivered under a name that comes before theirs."""


@dataclass
class Merged:
    """The partitions that delivered rows belong to, and what became of the rows."""

    partitions: list[Partition] = field(default_factory=list)
    delivered: Counter[str] = field(default_factory=Counter)
    """Good rows by delivered file."""
    outside_window: Counter[str] = field(default_factory=Counter)
    """Those of them outside the time window."""
    left_out: int = 0
    """Rows that are duplicates, delivered now or published before."""


def write_partitions(candidates: Candidates, s: IngestSettings, earlier: Earlier, directory: Path) -> Merged:
    """Write every partition that has a delivered row as ``event_date=<day>/<start of sha256>.parquet``.

    Bytes depend on the events and on DuckDB's version alone: not on threads, on the order of raw rows or on how they
    were delivered.

    Raises:
        HmarError: rows got lost or came twice on the way (a defect of this program, nothing is published).
    """
    candidates.connection.execute("set preserve_insertion_order = true")
    candidates.set(displaced=sorted(earlier.displaced))
    merged = Merged()
    for piece in candidates.pieces():
        arrivals = candidates.open(piece)
        for arrival in arrivals:
            merged.delivered[arrival.file] += arrival.rows
            merged.outside_window[arrival.file] += arrival.outside_window
        dates = sorted({arrival.event_date for arrival in arrivals})
        old = [earlier.partitions[day] for day in dates if day in earlier.partitions]
        left_out = _pool(candidates, s, [earlier.events / one.path for one in old], len(dates))
        merged.left_out += left_out.total()
        rows = _expected(arrivals, old, earlier.displaced, left_out)
        written = _write_all(candidates, s, rows, directory)
        found = _described(candidates, written, directory)
        _check(rows, found)
        merged.partitions += found
    merged.partitions.sort(key=lambda partition: partition.event_date)
    return merged


def write_quarantine(candidates: Candidates, path: Path) -> None:
    """Write source_file, source_row, reason and raw of every rejected row to ``path``."""
    candidates.connection.execute("set preserve_insertion_order = true")
    candidates.connection.execute(
        f"copy ({statement('ingest/51_quarantine')}) to {literal(path)} (format parquet, compression zstd)"
    )


def content_digest(sums: Sequence[tuple[int, int, int]]) -> str:
    """The digest of the union of disjoint parts, each given as (rows, first sum, second sum)."""
    rows, first, second = (sum(part[i] for part in sums) for i in range(3))
    return hashlib.sha256(f"{rows} {first} {second}".encode()).hexdigest()


def digest_of(partitions: Sequence[Partition]) -> str:
    """The digest of all events of the partitions."""
    return content_digest([(one.rows, *one.sums) for one in partitions])


_Rows = dict[date, Counter[str]]
"""Events by partition and raw file."""


def _pool(
    candidates: Candidates, s: IngestSettings, published: Sequence[Path], dates: int
) -> Counter[tuple[date, str]]:
    """Make ``pooled`` what may be an event of these partitions, and ``duplicates`` what is none; count the latter."""
    connection = candidates.connection
    candidates.set(published=[str(path) for path in [candidates.empty, *published]])
    connection.execute("drop table if exists batch")
    if dates == 1:
        candidates.view("pooled", "ingest/41_pooled")
    else:
        # Read once, because each partition looks through all of it.
        connection.execute(f"create table batch as {statement('ingest/41_pooled')}")
        connection.execute("create or replace view pooled as select * from batch")
    found = statement("ingest/42_duplicates")
    limit = "" if s.identical_rows == "duplicate" else " limit 0"
    connection.execute(f"create or replace table duplicates as select * from ({found}){limit}")
    return Counter({(day, file): rows for day, file, rows in candidates.rows("ingest/62_left_out")})


def _expected(
    arrivals: Sequence[Arrival],
    old: Sequence[Partition],
    displaced: frozenset[str],
    left_out: Mapping[tuple[date, str], int],
) -> _Rows:
    rows: _Rows = {}
    for arrival in arrivals:
        rows.setdefault(arrival.event_date, Counter())[arrival.file] += arrival.rows
    for partition in old:
        rows[partition.event_date].update(
            {file: count for file, count in partition.inputs.items() if file not in displaced}
        )
    for (day, file), count in left_out.items():
        rows[day][file] -= count
    return rows


def _write_all(candidates: Candidates, s: IngestSettings, rows: _Rows, directory: Path) -> dict[date, Path]:
    def write(day: date, connection: duckdb.DuckDBPyConnection) -> Path:
        return _write(connection, day, _end(day, s.partition), directory)

    def write_small(day: date) -> Path:
        # A cursor is a connection of its own to the same database: settings and variables are per connection.
        with candidates.connection.cursor() as cursor:
            cursor.execute("set timezone = 'UTC'")
            return write(day, cursor)

    if len(rows) == 1 or max(count.total() for count in rows.values()) >= LARGE:
        return {day: write(day, candidates.connection) for day in rows}
    with ThreadPoolExecutor(WRITERS) as pool:
        return dict(zip(rows, pool.map(write_small, rows), strict=True))


def _write(connection: duckdb.DuckDBPyConnection, day: date, end: date, directory: Path) -> Path:
    folder = directory / f"event_date={day}"
    folder.mkdir()
    path = folder / "writing.parquet"
    for name, value in (("first_us", _microseconds(day)), ("end_us", _microseconds(end))):
        connection.execute(f"set variable {name} = ?", [value])
    connection.execute(f"copy ({statement('ingest/50_events')}) to {literal(path)} ({_FORMAT})")
    return path


def _described(candidates: Candidates, written: Mapping[date, Path], directory: Path) -> list[Partition]:
    """What the written files hold, read from them, and their final names."""
    candidates.set(written=[str(path) for path in written.values()])
    groups: dict[str, list[tuple[str, str, int, int, int, int, int]]] = {str(path): [] for path in written.values()}
    for filename, *group in candidates.rows("ingest/63_partitions"):
        groups[filename].append(tuple(group))
    return [_partition(day, path, groups[str(path)], directory) for day, path in written.items()]


def _partition(
    day: date, path: Path, groups: Sequence[tuple[str, str, int, int, int, int, int]], directory: Path
) -> Partition:
    behaviors: Counter[str] = Counter()
    inputs: Counter[str] = Counter()
    for file, behavior, rows, *_ in groups:
        inputs[file] += rows
        behaviors[behavior] += rows
    sums = (sum(int(group[5]) for group in groups), sum(int(group[6]) for group in groups))
    with path.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    final = path.with_name(f"{sha256[:16]}.parquet")
    path.rename(final)
    return Partition(
        event_date=day,
        path=final.relative_to(directory).as_posix(),
        rows=inputs.total(),
        content_digest=content_digest([(inputs.total(), *sums)]),
        sums=sums,
        sha256=sha256,
        bytes=final.stat().st_size,
        min_time=EPOCH + timedelta(microseconds=min(group[3] for group in groups)),
        max_time=EPOCH + timedelta(microseconds=max(group[4] for group in groups)),
        behaviors=dict(sorted(behaviors.items())),
        inputs=dict(sorted(inputs.items())),
    )


def _check(expected: _Rows, written: Sequence[Partition]) -> None:
    for partition in written:
        wanted = {file: rows for file, rows in expected[partition.event_date].items() if rows}
        if wanted != partition.inputs:
            raise HmarError(
                f"partition {partition.event_date}: {sum(wanted.values())} events were to be written but "
                f"{partition.rows} were, or of other files; nothing was published"
            )


def _end(day: date, span: str) -> date:
    """The first day of the next partition."""
    if span == "day":
        return day + timedelta(days=1)
    return date(day.year + (span == "year" or day.month == 12), 1 if span == "year" else day.month % 12 + 1, 1)


def _microseconds(day: date) -> int:
    return (datetime.combine(day, time(), UTC) - EPOCH) // timedelta(microseconds=1)
