"""Columns to lines of text without a Python object per row: Arrow joins them, and its buffer is the file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Template:
    """How the columns of a row become a line.

    Attributes:
        before: what stands before each column. after: what stands after the last one, without the line end.
        left_out: the column that a short line lacks, together with what stands before it.
        whole: a line that is cut before the last occurrence of this is no row any more.
        short_reason, cut_reason: why an ingest rejects a short line and a cut one.
    """

    before: tuple[str, ...]
    after: str
    left_out: int
    whole: str
    short_reason: str
    cut_reason: str

    @classmethod
    def delimited(cls, columns: int, separator: str) -> "Template":
        """Columns between separators; a short line lacks the last."""
        return cls(("", *[separator] * (columns - 1)), "", columns - 1, separator, "missing_columns", "missing_columns")

    @classmethod
    def json(cls, text: str, left_out: int) -> "Template":
        """A JSON object with ``%`` where the columns go; a short line lacks the key of column ``left_out``, which must
        be a string between two others or at the end."""
        *before, after = text.split("%")
        return cls(tuple(before), after, left_out, "}", "missing_key", "bad_json")

    def lines(self, columns: Sequence[Any], short: bool = False) -> pa.LargeStringArray:
        """One line per row, its end included.

        Args:
            columns: NumPy or Arrow arrays of integers or text, one per entry of ``before``.
            short: leave the column ``left_out`` out.
        """
        pieces: list[Any] = []
        for number, (before, column) in enumerate(zip(self.before, columns, strict=True)):
            if short and number == self.left_out:
                continue
            if before:
                pieces.append(scalar(before))
            pieces.append(pc.cast(pa.array(column), pa.large_string()))
        return pc.binary_join_element_wise(*pieces, scalar(self.after + "\n"), scalar(""))

    def cut(self, line: str, share: float) -> str:
        """The beginning of a line, too little of it to be a row.

        Args:
            share: how much of what may be kept, from 0 to 1; a character is always kept.
        """
        most = line.rindex(self.whole)
        return line[: max(1, round(share * most))]


def scalar(value: str) -> pa.Scalar:
    return pa.scalar(value, pa.large_string())


def content(lines: pa.LargeStringArray) -> memoryview:
    """The lines as they stand in Arrow's buffer."""
    if len(lines) == 0:
        return memoryview(b"")
    offsets = np.frombuffer(lines.buffers()[1], np.int64, count=len(lines) + 1, offset=lines.offset * 8)
    return memoryview(lines.buffers()[2])[int(offsets[0]) : int(offsets[-1])]


def words(values: Sequence[str]) -> pa.LargeStringArray:
    """Text to take from."""
    return pa.array(values, pa.large_string())
