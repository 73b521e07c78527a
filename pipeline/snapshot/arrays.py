"""Columns of sorted Parquet to .npy files, one batch of rows in memory at a time."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

BATCH = 1 << 18


def write_arrays(events: Path, hbi: Sequence[str], directory: Path) -> None:
    """Write item, behavior, time and hbi from events.parquet.

    Plain writes behind a header, not a memory map: on a full disk a write is refused with an error, while touching a
    page of a sparse map kills the process.
    """
    with pq.ParquetFile(events) as source, ExitStack() as files:
        rows = source.metadata.num_rows

        def start(name: str, kind: type[np.generic], shape: tuple[int, ...]) -> IO[bytes]:
            stream = files.enter_context((directory / f"{name}.npy").open("wb"))
            _header(stream, np.dtype(kind), shape)
            return stream

        item, behavior = start("item", np.int32, (rows,)), start("behavior", np.uint8, (rows,))
        time, counts = start("time", np.int64, (rows,)), start("hbi", np.uint16, (rows, len(hbi)))
        for batch in source.iter_batches(BATCH, columns=["item", "behavior", "event_time", *hbi]):
            _append(item, _column(batch, "item"), np.int32)
            _append(behavior, _column(batch, "behavior"), np.uint8)
            _append(time, batch.column("event_time").cast(pa.int64()).to_numpy(), np.int64)
            _append(counts, np.stack([_column(batch, name) for name in hbi], axis=1), np.uint16)


def write_offsets(starts: pa.ChunkedArray, total: int, directory: Path) -> None:
    """Write the users' first rows, int64 in the order of users, closed by the number of events."""
    write_array(directory / "offsets.npy", np.append(starts.to_numpy(), total).astype(np.int64))


def write_array(path: Path, values: NDArray[Any]) -> None:
    """Write one array that is in memory."""
    with path.open("wb") as stream:
        _header(stream, values.dtype, values.shape)
        stream.write(np.ascontiguousarray(values).data)


def _header(stream: IO[bytes], kind: np.dtype, shape: tuple[int, ...]) -> None:
    description = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, description)


def _append(stream: IO[bytes], values: NDArray[Any], kind: type[np.generic]) -> None:
    stream.write(np.ascontiguousarray(values, dtype=kind).data)


def _column(batch: pa.RecordBatch, name: str) -> NDArray[Any]:
    column: NDArray[Any] = batch.column(name).to_numpy(zero_copy_only=False)
    return column
