"""From pieces of candidates to event files, equal content in equal bytes, together with what is published already."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import groupby, pairwise, repeat
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hmar.errors import HmarError
from pipeline.ingest.candidates import EPOCH, Candidates, literal
from pipeline.ingest.event_files import EventFile, without_duplicates
from pipeline.ingest.ordering import Earlier, ordered
from pipeline.ingest.routing import Arrival, Piece
from pipeline.settings import IngestSettings
from pipeline.storage.events_store import Partition
from pipeline.storage.statements import statement

if TYPE_CHECKING:
    import pyarrow as pa

WRITERS = 3
"""Pieces written at the same time: sorting, compressing and writing take turns on the cores."""


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

    Bytes depend on the events and on Arrow's version alone: not on threads, on the order of raw rows or on how they
    were delivered.

    Raises:
        HmarError: rows got lost or came twice on the way (a defect of this program, nothing is published).
    """
    pieces = candidates.pieces()
    merged = Merged()
    for piece in pieces:
        for arrival in piece.arrivals:
            merged.delivered[arrival.file] += arrival.rows
            merged.outside_window[arrival.file] += arrival.outside_window
    query = "select parse_formatted_bytes(current_setting('memory_limit'))"
    ((limit,),) = candidates.connection.execute(query).fetchall()
    # The largest first, so that none of them is left for the end.
    pieces.sort(key=lambda piece: -sum(arrival.rows for arrival in piece.arrivals))
    with ThreadPoolExecutor(WRITERS) as pool:
        written = pool.map(
            lambda piece: _write_piece(candidates, s, earlier, piece, directory, limit // WRITERS), pieces
        )
        for partitions, left_out in written:
            merged.partitions += partitions
            merged.left_out += left_out
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


def _write_piece(
    candidates: Candidates, s: IngestSettings, earlier: Earlier, piece: Piece, directory: Path, memory: int
) -> tuple[list[Partition], int]:
    """The partitions of a piece, and how many of its rows are duplicates."""
    expected = _rows(piece.arrivals, earlier.of(piece), earlier.displaced)
    written: list[Partition] = []
    left_out = 0
    rows = ordered(candidates, earlier, piece, memory)
    for day, group in groupby(_by_date(piece, rows), key=itemgetter(0)):
        duplicates: Counter[str] = Counter()
        batches = map(itemgetter(1), group)
        events = without_duplicates(batches, duplicates) if s.identical_rows == "duplicate" else batches
        with EventFile(directory / f"event_date={day}", candidates.types, candidates.sums) as file:
            for batch in events:
                file.write(batch)
        written.append(_partition(day, file, directory))
        expected[day].subtract(duplicates)
        left_out += duplicates.total()
    _check(expected, written)
    piece.remove()
    return written, left_out


def _by_date(piece: Piece, batches: Iterator["pa.RecordBatch"]) -> Iterator[tuple[date, "pa.RecordBatch"]]:
    """The rows of each partition, in one batch or more."""
    if len(piece.dates) == 1:
        yield from zip(repeat(piece.dates[0]), batches, strict=False)
        return
    for batch in batches:
        days = batch.column("event_date").cast("int32").to_numpy()
        starts = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
        for start, end in pairwise(starts):
            yield EPOCH.date() + timedelta(days=int(days[start])), batch.slice(start, end - start)


def _rows(arrivals: Sequence[Arrival], old: Sequence[Partition], displaced: frozenset[str]) -> dict[date, Counter[str]]:
    """Rows that may be events, by partition and raw file."""
    rows: dict[date, Counter[str]] = {}
    for arrival in arrivals:
        rows.setdefault(arrival.event_date, Counter())[arrival.file] += arrival.rows
    for partition in old:
        rows[partition.event_date].update(
            {file: count for file, count in partition.inputs.items() if file not in displaced}
        )
    return rows


def _partition(day: date, file: EventFile, directory: Path) -> Partition:
    return Partition(
        event_date=day,
        path=file.path.relative_to(directory).as_posix(),
        rows=file.rows,
        content_digest=content_digest([(file.rows, *file.sums)]),
        sums=file.sums,
        sha256=file.sha256,
        bytes=file.path.stat().st_size,
        min_time=file.first,
        max_time=file.last,
        behaviors=dict(sorted(file.behaviors.items())),
        inputs=dict(sorted(file.inputs.items())),
    )


def _check(expected: Mapping[date, Counter[str]], written: Sequence[Partition]) -> None:
    found = {partition.event_date: partition.inputs for partition in written}
    for day, counts in expected.items():
        wanted = {file: rows for file, rows in counts.items() if rows}
        if wanted != found.get(day):
            raise HmarError(
                f"partition {day}: {sum(wanted.values())} events were to be written but "
                f"{sum(found.get(day, {}).values())} were, or of other files; nothing was published"
            )
