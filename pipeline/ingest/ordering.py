"""The rows of a piece in the order in which their partitions are published.

In memory where they fit, which takes a fraction of the time; through DuckDB, which spills, where they do not. Both give
the same rows in the same order: that of ``sql/ingest/50_events``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.ingest.arrow import int64, streamed, strings
from pipeline.ingest.candidates import Candidates
from pipeline.ingest.routing import Piece
from pipeline.storage.events_store import Partition
from pipeline.storage.statements import statement

if TYPE_CHECKING:
    import pyarrow as pa

ORDER = ("user_id", "event_time", "item_id", "behavior", "value", "category_id", "source_file", "source_row")
"""What events are sorted by within a partition, nulls last."""
AT_A_TIME = 262_144
"""Rows that are put in order at a time."""


@dataclass(frozen=True)
class Earlier:
    """What is published and stays, unless rows that are delivered now belong to the same partition."""

    events: Path
    partitions: Mapping[date, Partition] = field(default_factory=dict)
    displaced: frozenset[str] = frozenset()
    """Files whose rows leave the events: the same content is delivered under a name that comes before theirs."""

    def of(self, piece: Piece) -> list[Partition]:
        """The partitions that rows of the piece belong to."""
        return [self.partitions[day] for day in piece.dates if day in self.partitions]


def ordered(candidates: Candidates, earlier: Earlier, piece: Piece, memory: int) -> Iterator["pa.RecordBatch"]:
    """All rows that may be events of the piece's partitions, delivered now or published earlier.

    Args:
        memory: bytes that this may take, about.

    Returns:
        Batches with event_date and the columns of an event; behavior and source_file as dictionary arrays.
    """
    delivered = sum(arrival.rows for arrival in piece.arrivals)
    rows = delivered + sum(one.rows for one in earlier.of(piece))
    size = piece.bytes * rows // delivered
    # All rows as they were read, all in one array a column, and a place in the order for each.
    if 2 * size + 8 * rows <= memory:
        return in_memory(candidates, earlier, piece)
    return through_duckdb(candidates, earlier, piece)


def in_memory(candidates: Candidates, earlier: Earlier, piece: Piece) -> Iterator["pa.RecordBatch"]:
    """:func:`ordered`, by Arrow."""
    import pyarrow as pa
    import pyarrow.compute as pc

    files = strings(*(name.encode() for name in candidates.names))
    behaviors = strings(*(name.encode() for name in candidates.behaviors))
    parts = [*_delivered(candidates, piece), *_published(earlier, piece, files, behaviors)]
    table = pa.Table.from_batches(parts).combine_chunks()
    del parts
    days = ("event_date",) if len(piece.dates) > 1 else ()
    order = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in (*days, *ORDER)])
    for start in range(0, len(order), AT_A_TIME):
        rows = table.take(order.slice(start, AT_A_TIME)).to_batches()[0]
        for name, words in (("behavior", behaviors), ("source_file", files)):
            place = rows.schema.get_field_index(name)
            rows = rows.set_column(place, name, pa.DictionaryArray.from_arrays(rows.column(place), words))
        yield rows


def through_duckdb(candidates: Candidates, earlier: Earlier, piece: Piece) -> Iterator["pa.RecordBatch"]:
    """:func:`ordered`, by DuckDB."""
    # A cursor is a connection of its own to the same database: settings, variables and views of data are its own.
    with candidates.connection.cursor() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute("set preserve_insertion_order = true")
        old = earlier.of(piece)
        for name, value in (
            ("partition", candidates.partition),
            ("displaced", sorted(earlier.displaced)),
            ("published", [str(earlier.events / one.path) for one in old]),
        ):
            connection.execute(f"set variable {name} = ?", [value])
        connection.register("piece", piece.reader())
        connection.execute(f"create or replace temp view delivered as {statement('ingest/40_delivered')}")
        pooled = statement("ingest/41_pooled") if old else "select * from delivered"
        connection.execute(f"create or replace temp view pooled as {pooled}")
        yield from streamed(connection, statement("ingest/50_events"))


def _delivered(candidates: Candidates, piece: Piece) -> Iterator["pa.RecordBatch"]:
    import pyarrow as pa

    numbers = {name: number for number, name in enumerate(candidates.names)}
    for file, batch in piece.batches():
        place = batch.schema.get_field_index("behavior")
        batch = batch.set_column(place, "behavior", batch.column(place).indices.cast(pa.int32()))
        yield _in_order(batch.append_column("source_file", _repeated(numbers[file], len(batch))))


def _published(
    earlier: Earlier, piece: Piece, files: "pa.StringArray", behaviors: "pa.StringArray"
) -> Iterator["pa.RecordBatch"]:
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import parquet

    for one in earlier.of(piece):
        for batch in parquet.ParquetFile(earlier.events / one.path).iter_batches():
            names = batch.column("source_file")
            if earlier.displaced:
                gone = pc.is_in(names, value_set=strings(*(name.encode() for name in sorted(earlier.displaced))))
                batch = batch.take(int64(np.flatnonzero(~np.asarray(gone))))
            for name, words in (("behavior", behaviors), ("source_file", files)):
                place = batch.schema.get_field_index(name)
                batch = batch.set_column(place, name, pc.index_in(batch.column(place), value_set=words))
            day = (one.event_date - date(1970, 1, 1)).days
            yield _in_order(batch.append_column("event_date", _repeated(day, len(batch)).cast(pa.date32())))


def _in_order(batch: "pa.RecordBatch") -> "pa.RecordBatch":
    """The same columns in the same order wherever the rows are from, and times of one type."""
    import pyarrow as pa

    batch = batch.select(["event_date", *ORDER])
    place = batch.schema.get_field_index("event_time")
    return batch.set_column(place, "event_time", batch.column(place).cast(pa.timestamp("us", "UTC")))


def _repeated(number: int, times: int) -> "pa.Int32Array":
    import pyarrow as pa

    return pa.Array.from_buffers(pa.int32(), times, [None, pa.py_buffer(np.full(times, number, np.int32))])
