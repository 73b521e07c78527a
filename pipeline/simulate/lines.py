"""Columns to lines of text without a Python object per row: Arrow joins them, and its buffer is the file."""

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Row = tuple[str, ...]


def join(columns: Sequence[Any], separator: str) -> pa.LargeStringArray:
    """Lines, newline included: one per row of ``columns`` (NumPy or Arrow arrays of integers or text)."""
    text = [pc.cast(pa.array(column), pa.large_string()) for column in columns]
    line = pc.binary_join_element_wise(*text, _text(separator))
    return pc.binary_join_element_wise(line, _text(""), _text("\n"))


def _text(value: str) -> pa.Scalar:
    return pa.scalar(value, pa.large_string())


def rows_at(columns: Sequence[Any], index: NDArray[np.int64]) -> list[Row]:
    """A few rows as text, to make flawed copies of."""
    text = [pc.cast(pa.array(column).take(pa.array(index)), pa.large_string()).to_pylist() for column in columns]
    return list(zip(*text, strict=True))


def write(stream: IO[bytes], lines: pa.LargeStringArray) -> None:
    """Append the lines to the stream, straight from Arrow's buffer."""
    if len(lines) == 0:
        return
    offsets = np.frombuffer(lines.buffers()[1], np.int64, count=len(lines) + 1, offset=lines.offset * 8)
    stream.write(memoryview(lines.buffers()[2])[int(offsets[0]) : int(offsets[-1])])


def mixed(lines: pa.LargeStringArray, extra: Sequence[str], rng: np.random.Generator) -> pa.LargeStringArray:
    """``lines`` with ``extra`` ones at random places, the order within ``lines`` kept."""
    if not extra:
        return lines
    both = pa.concat_arrays([lines, pa.array(extra, pa.large_string())])
    place = np.concatenate([np.arange(len(lines)), rng.uniform(0, len(lines), len(extra))])
    return both.take(pa.array(np.argsort(place, kind="stable")))


@contextmanager
def raw_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file to write, gzip by its suffix; equal content gives equal bytes (no name, no time in the header)."""
    with path.open("wb") as stream:
        if path.suffix != ".gz":
            yield stream
            return
        with gzip.GzipFile(filename="", fileobj=stream, mode="wb", compresslevel=6, mtime=0) as packed:
            yield packed  # type: ignore[misc]
