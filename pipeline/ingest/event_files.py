"""One partition as a Parquet file: the same events in the same order give the same bytes."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.ingest.arrow import event_schema, int64, strings
from pipeline.ingest.candidates import EPOCH

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 524_288
"""Rows of a row group."""
IDENTITY = ("user_id", "event_time", "item_id", "behavior")
"""Rows that are equal in these are one event, or as many as the settings say."""

_DELTAS = ("user_id", "item_id", "event_time", "source_row")
"""Columns whose neighbors are alike, or are numbers of which few are: written as differences unless they are texts."""


class EventFile:
    """A Parquet file of events that is written batch by batch; when the ``with`` block ends, its numbers are known."""

    def __init__(
        self, folder: Path, types: Mapping[str, str], sums_of: Callable[["pa.Table"], tuple[int, int]]
    ) -> None:
        """
        Args:
            folder: to be made; the file's name in it is the start of its checksum.
            types: of user_id, item_id and category_id in SQL.
            sums_of: two sums over hashes of events.
        """
        from pyarrow import parquet

        folder.mkdir()
        self.path = folder / "writing.parquet"
        self.rows = 0
        self.sums = (0, 0)
        """Over hashes of all events."""
        self.behaviors: Counter[str] = Counter()
        self.inputs: Counter[str] = Counter()
        """Events by raw file."""
        self.first = self.last = EPOCH
        self.sha256 = ""
        self._sums_of = sums_of
        self._schema = event_schema(types)
        self._pending: list[pa.RecordBatch] = []
        self._held = 0
        deltas = [name for name in _DELTAS if types.get(name) != "varchar"]
        self._writer = parquet.ParquetWriter(
            self.path,
            _with_codes(self._schema),
            compression="zstd",
            compression_level=1,
            use_dictionary=[name for name in self._schema.names if name not in deltas],
            column_encoding=dict.fromkeys(deltas, "DELTA_BINARY_PACKED"),
            store_schema=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._writer.close()
            return
        if self._held:
            self._write_group(self._held)
        self._writer.close()
        with self.path.open("rb") as stream:
            self.sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        self.path = self.path.rename(self.path.with_name(f"{self.sha256[:16]}.parquet"))

    def write(self, batch: "pa.RecordBatch") -> None:
        """Add rows, in the order of ``sql/ingest/50_events``."""
        self._pending.append(batch)
        self._held += len(batch)
        while self._held >= ROW_GROUP:
            self._write_group(ROW_GROUP)

    def _write_group(self, rows: int) -> None:
        import pyarrow as pa

        held = pa.Table.from_batches(self._pending)
        group = held.slice(0, rows).combine_chunks()
        self._pending = held.slice(rows).to_batches()
        self._held -= rows
        behavior = _used_words(group.column("behavior").combine_chunks(), self.behaviors)
        source_file = _used_words(group.column("source_file").combine_chunks(), self.inputs)
        self._describe(group)
        columns = {name: group.column(name) for name in self._schema.names}
        columns |= {"behavior": behavior, "source_file": source_file}
        columns["event_time"] = columns["event_time"].cast(self._schema.field("event_time").type)
        self._writer.write_table(pa.table(columns), row_group_size=rows)

    def _describe(self, group: "pa.Table") -> None:
        times = group.column("event_time").combine_chunks().cast("int64").to_numpy()
        first, last = (EPOCH + timedelta(microseconds=int(time)) for time in (times.min(), times.max()))
        self.first, self.last = (min(first, self.first), max(last, self.last)) if self.rows else (first, last)
        self.rows += len(times)
        found = self._sums_of(group)
        self.sums = (self.sums[0] + found[0], self.sums[1] + found[1])


def without_duplicates(batches: Iterator["pa.RecordBatch"], duplicates: Counter[str]) -> Iterator["pa.RecordBatch"]:
    """The first of equal neighbors; the others are counted by raw file."""
    before = None
    for batch in batches:
        repeats = _equal_to_row_before(batch, before)
        before = batch.slice(len(batch) - 1)
        if repeats.any():
            _used_words(batch.column("source_file").take(int64(np.flatnonzero(repeats))), duplicates)
            batch = batch.take(int64(np.flatnonzero(~repeats)))
        yield batch


def _equal_to_row_before(batch: "pa.RecordBatch", before: "pa.RecordBatch | None") -> NDArray[np.bool_]:
    import pyarrow as pa
    import pyarrow.compute as pc

    equal = np.ones(len(batch), bool)
    equal[0] = before is not None
    for name in IDENTITY:
        column = _codes(batch.column(name))
        first = column.slice(0, 1) if before is None else _codes(before.column(name))
        shifted = pa.concat_arrays([first, column.slice(0, len(column) - 1)])
        equal &= np.asarray(pc.equal(column, shifted))
    return equal


def _codes(column: "pa.Array") -> "pa.Array":
    import pyarrow as pa

    return column.indices if pa.types.is_dictionary(column.type) else column


def _with_codes(schema: "pa.Schema") -> "pa.Schema":
    """The schema with texts that are few as codes, which is how they come; in the file they are texts all the same."""
    import pyarrow as pa

    for name in ("behavior", "source_file"):
        codes = pa.field(name, pa.dictionary(pa.int32(), pa.string()))
        schema = schema.set(schema.get_field_index(name), codes)
    return schema


def _used_words(column: "pa.DictionaryArray", counter: Counter[str]) -> "pa.DictionaryArray":
    """The column with a dictionary of the words in it only: others must not find their way into the file."""
    import pyarrow as pa

    codes = column.indices.to_numpy()
    counts = np.bincount(codes)
    used = np.flatnonzero(counts)
    words = [column.dictionary[code].as_py() for code in used]
    counter.update(dict(zip(words, counts[used].tolist(), strict=True)))
    narrow = np.zeros(len(counts), np.int32)
    narrow[used] = np.arange(len(used))
    indices = pa.Array.from_buffers(pa.int32(), len(codes), [None, pa.py_buffer(narrow[codes])])
    return pa.DictionaryArray.from_arrays(indices, strings(*(word.encode() for word in words)))
