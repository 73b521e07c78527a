"""Good rows on their way to their partitions: in pieces on disk, so that memory does not grow with the log.

All rows of a partition are in one piece. A piece is one Arrow stream per raw file, written as the rows come.
"""

import threading
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.ingest.arrow import int64, repeated

if TYPE_CHECKING:
    import pyarrow as pa

PIECES = 16
"""A partition's piece is its day modulo this: few enough for a buffer each, enough to divide a large log."""

_DAY_0 = date(1970, 1, 1)


class Arrival(NamedTuple):
    """Good rows of one file in one partition."""

    event_date: date
    file: str
    rows: int
    outside_window: int


class Piece(NamedTuple):
    """Good rows of some partitions, and where they lie."""

    arrivals: tuple[Arrival, ...]
    streams: tuple[tuple[str, Path], ...]
    """Raw file, and the Arrow stream with its rows."""

    @property
    def dates(self) -> list[date]:
        return sorted({arrival.event_date for arrival in self.arrivals})

    @property
    def bytes(self) -> int:
        """Of the rows, on disk and in memory."""
        return sum(path.stat().st_size for _, path in self.streams)

    def batches(self) -> Iterator[tuple[str, "pa.RecordBatch"]]:
        """The rows, with the raw file that they are of."""
        import pyarrow as pa

        for file, path in self.streams:
            with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as stream:
                for batch in stream:
                    yield file, batch

    def remove(self) -> None:
        """Give the disk back what the rows took."""
        for _, path in self.streams:
            path.unlink()

    def reader(self) -> "pa.RecordBatchReader":
        """The rows, each with its source_file; to be read once."""
        import pyarrow as pa

        with pa.OSFile(str(self.streams[0][1])) as source, pa.ipc.open_stream(source) as stream:
            schema = stream.schema.append(pa.field("source_file", repeated("", 0).type))
        return pa.RecordBatchReader.from_batches(
            schema, (batch.append_column("source_file", repeated(file, len(batch))) for file, batch in self.batches())
        )


class Router:
    """Writes the good rows of raw files to pieces, and the others to one Parquet file."""

    def __init__(self, directory: Path, threads: int) -> None:
        """``directory``: an empty one."""
        self.rejected = directory / "rejected.parquet"
        self._directory = directory
        self._threads = threads
        self._rows: dict[int, Counter[tuple[int, str]]] = {}
        self._outside: Counter[tuple[int, str]] = Counter()
        self._streams: dict[int, list[tuple[str, Path]]] = {}
        self._writers: dict[int, pa.RecordBatchStreamWriter] = {}
        self._locks = [threading.Lock() for _ in range(PIECES)]
        self._rejecting: pa.parquet.ParquetWriter | None = None
        self._counting = threading.Lock()

    def route(self, file: str, batches: Iterator["pa.RecordBatch"]) -> None:
        """Write rows of a raw file: the columns of ``sql/ingest/30_candidates``. Call it for one file after another."""
        pending: deque[Future[None]] = deque()
        pool = ThreadPoolExecutor(self._threads)
        try:
            for batch in batches:
                pending.append(pool.submit(self._route, file, batch))
                if len(pending) > self._threads:
                    pending.popleft().result()
            while pending:
                pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def end_file(self) -> None:
        """No more rows of this raw file come."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def close(self) -> None:
        """No more rows come."""
        self.end_file()
        self._rejector().close()

    def pieces(self) -> list[Piece]:
        """What was written."""
        found = []
        for number, streams in sorted(self._streams.items()):
            arrivals = [
                Arrival(_DAY_0 + timedelta(days=day), file, rows, self._outside[day, file])
                for (day, file), rows in sorted(self._rows[number].items())
            ]
            found.append(Piece(tuple(arrivals), tuple(streams)))
        return found

    def _route(self, file: str, batch: "pa.RecordBatch") -> None:
        reasons = batch.column("reason")
        if reasons.null_count < len(batch):
            bad = np.asarray(reasons.is_valid())
            self._reject(file, batch.take(int64(np.flatnonzero(bad))))
            batch = batch.take(int64(np.flatnonzero(~bad)))
        if not len(batch):
            return
        days = np.frombuffer(
            batch.column("event_date").buffers()[1], np.int32, len(batch), 4 * batch.column("event_date").offset
        )
        self._count(file, days, batch)
        rows = batch.drop_columns(["reason", "raw", "outside_window"])
        pieces = (days & (PIECES - 1)).astype(np.uint8)
        sizes = np.bincount(pieces, minlength=PIECES)
        if sizes.max() < len(rows):
            rows = rows.take(int64(np.argsort(pieces, kind="stable")))
        start = 0
        for number, size in enumerate(sizes.tolist()):
            if size:
                with self._locks[number]:
                    self._writer(number, file, rows.schema).write_batch(rows.slice(start, size))
                start += size

    def _count(self, file: str, days: NDArray[np.int32], batch: "pa.RecordBatch") -> None:
        outside = np.asarray(batch.column("outside_window"))
        arrived, not_in_window = _counted(days), _counted(days[outside])
        with self._counting:
            for day, rows in arrived:
                self._rows.setdefault(day & (PIECES - 1), Counter())[day, file] += rows
            for day, rows in not_in_window:
                self._outside[day, file] += rows

    def _writer(self, number: int, file: str, schema: "pa.Schema") -> "pa.RecordBatchStreamWriter":
        import pyarrow as pa

        if number not in self._writers:
            streams = self._streams.setdefault(number, [])
            path = self._directory / f"piece-{number}-{len(streams)}.arrows"
            streams.append((file, path))
            # Not compressed: packing and unpacking would take longer than all else that is done on the way.
            self._writers[number] = pa.ipc.new_stream(path, schema)
        return self._writers[number]

    def _reject(self, file: str, rows: "pa.RecordBatch") -> None:
        import pyarrow as pa

        with self._counting:
            self._rejector().write_batch(
                pa.record_batch(
                    [
                        repeated(file, len(rows)).cast(pa.string()),
                        rows.column("source_row"),
                        rows.column("reason").cast(pa.string()),
                        rows.column("raw"),
                    ],
                    schema=self._rejected_schema(),
                )
            )

    def _rejected_schema(self) -> "pa.Schema":
        import pyarrow as pa

        return pa.schema(
            [("source_file", pa.string()), ("source_row", pa.int64()), ("reason", pa.string()), ("raw", pa.string())]
        )

    def _rejector(self) -> "pa.parquet.ParquetWriter":
        from pyarrow import parquet

        if self._rejecting is None:
            self._rejecting = parquet.ParquetWriter(self.rejected, self._rejected_schema(), compression="lz4")
        return self._rejecting


def _counted(days: NDArray[np.int32]) -> list[tuple[int, int]]:
    """The days, and how often each is there."""
    if not len(days):
        return []
    first = int(days.min())
    if int(days.max()) - first > len(days):
        found, counts = np.unique(days, return_counts=True)
        return list(zip(found.tolist(), counts.tolist(), strict=True))
    counts = np.bincount(days - first)
    return [(first + int(day), int(counts[day])) for day in np.flatnonzero(counts)]
