"""Small things about Arrow: arrays from buffers, and DuckDB's answers as a stream of batches."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

BATCH = 122_880
"""Rows of one batch: DuckDB's row group."""


# Arrays are made of buffers: pa.array imports pandas, and that takes half a second.
def int64(values: NDArray[np.int64]) -> "pa.Int64Array":
    """The numbers as an Arrow array, not copied."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values, np.int64))])


def strings(*texts: bytes) -> "pa.StringArray":
    """Texts, given as UTF-8, as an Arrow array."""
    import pyarrow as pa

    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(b"".join(texts)))


def repeated(text: str, times: int) -> "pa.DictionaryArray":
    """One text, many times."""
    import pyarrow as pa

    codes = pa.Array.from_buffers(pa.int8(), times, [None, pa.py_buffer(bytes(times))])
    return pa.DictionaryArray.from_arrays(codes, strings(text.encode()))


def event_schema(types: Mapping[str, str]) -> "pa.Schema":
    """The columns of an event file; ``types``: of user_id, item_id and category_id in SQL."""
    import pyarrow as pa

    ids = {"bigint": pa.int64(), "varchar": pa.string()}
    return pa.schema(
        [
            ("user_id", ids[types["user_id"]]),
            ("item_id", ids[types["item_id"]]),
            ("behavior", pa.string()),
            ("event_time", pa.timestamp("us", "UTC")),
            ("category_id", ids[types["category_id"]]),
            ("value", pa.float64()),
            ("source_file", pa.string()),
            ("source_row", pa.int64()),
        ]
    )


def streamed(connection: "duckdb.DuckDBPyConnection", query: str) -> Iterator["pa.RecordBatch"]:
    """What a query gives, in its order, while it runs.

    Raises:
        duckdb.Error: as the query itself; what happens in the middle of the stream reaches Python as text only, so it
            is one of two classes then.
    """
    try:
        yield from connection.sql(query).to_arrow_reader(BATCH)
    except OSError as error:
        import duckdb

        # Arrow's own errors have no number.
        if error.errno is not None:
            raise
        out_of_memory = str(error).startswith("Out of Memory")
        raise (duckdb.OutOfMemoryException if out_of_memory else duckdb.IOException)(str(error)) from error
