"""Columns of sorted Parquet to .npy files, one batch of rows in memory at a time."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

BATCH = 1 << 18


def write_arrays(events: Path, hbi: Sequence[str], directory: Path) -> None:
    """Write item, behavior, time and hbi from events.parquet, each array by a thread of its own.

    Plain writes behind a header, not a memory map: on a full disk a write is refused with an error, while touching a
    page of a sparse map kills the process.
    """
    with ThreadPoolExecutor() as threads:
        started = [
            threads.submit(_copy, events, hbi, directory / "hbi.npy", np.uint16, wide=True),
            threads.submit(_copy, events, ["event_time"], directory / "time.npy", np.int64),
            threads.submit(_copy, events, ["item"], directory / "item.npy", np.int32),
            threads.submit(_copy, events, ["behavior"], directory / "behavior.npy", np.uint8),
        ]
        for array in started:
            array.result()


def _copy(events: Path, columns: Sequence[str], path: Path, kind: type[np.generic], wide: bool = False) -> None:
    """Write one array, [E] or, where ``wide``, [E, columns]."""
    with pq.ParquetFile(events) as source, path.open("wb") as stream:
        rows = source.metadata.num_rows
        _header(stream, np.dtype(kind), (rows, len(columns)) if wide else (rows,))
        for batch in source.iter_batches(BATCH, columns=list(columns), use_threads=False):
            values = np.empty((len(batch), len(columns)), kind)
            for place, name in enumerate(columns):
                values[:, place] = _numbers(batch.column(name))
            stream.write(values.data)


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


def _numbers(column: pa.Array) -> NDArray[Any]:
    numbers = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
    values: NDArray[Any] = numbers.to_numpy(zero_copy_only=False)
    return values
