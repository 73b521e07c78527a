"""The fast way for delimited lines: Arrow converts the columns of many plain lines at once, in threads.

Nothing is decided here that the exact statement of a layout would decide differently: what is not plain beyond doubt
(:class:`pipeline.sources.base.Plain`) is handed on as text, line by line, and goes the exact way.
"""

import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.ingest.arrow import int64, strings
from pipeline.ingest.lines import LineBlocks, normal
from pipeline.sources.base import Layout, Plain, PlainKind

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 4 * 1024 * 1024
"""Bytes that one thread sorts out at a time."""
IN_MEMORY = 32 * 1024 * 1024
"""Bytes of lines that are not plain beyond which they wait on the disk."""
FEW = 64
"""Lines of a block that may be of an unknown word before the block is looked at more closely."""
SURE_DIGITS = 18
"""Any number of so many digits fits 64 bits."""

_NEWLINE = ord("\n")
_PRINTABLE = bytes(byte for byte in range(0x20, 0x7F) if byte != ord('"'))

Rows = NDArray[np.int64]


class Sorted(NamedTuple):
    """One block, sorted out. Rows are counted from 0 within it."""

    lines: int
    plain: list[tuple[Rows, "pa.RecordBatch"]]
    """Plain lines: which they are, and line and columns of each."""
    others: "pa.StringArray | None" = None
    """Text of what is not plain: single lines, or the whole block."""
    other_rows: Rows | tuple[()] = ()
    """The first line of each text."""


class PlainLines:
    """A raw file as typed plain lines, and the rest of it as text; read ``reader`` to its end, then ``others``."""

    def __init__(self, blocks: LineBlocks, layout: Layout, spill: Path, threads: int) -> None:
        """``spill``: directory for what does not fit into memory."""
        import pyarrow as pa

        self._blocks = blocks
        self._rules = Rules(layout)
        self._threads = threads
        self._kept = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=str(spill))  # noqa: SIM115
        self._schema = pa.schema([("source_row", pa.int64()), *self._rules.schema])
        self._others_schema = pa.schema([("first_row", pa.int64()), ("text", pa.string())])
        self.texts = 0
        """How many texts are not plain, once ``reader`` is read."""

    def reader(self) -> "pa.RecordBatchReader":
        """Batches of plain lines: source_row, line and the columns. Fails as :meth:`LineBlocks.reader` does."""
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self._schema, self._blocks.remembering(self._batches()))

    def others(self) -> "pa.RecordBatchReader":
        """What is not plain, as :meth:`LineBlocks.reader` gives it."""
        import pyarrow as pa

        self._kept.seek(0)
        return pa.ipc.open_stream(self._kept)

    def close(self) -> None:
        self._kept.close()

    def _batches(self) -> Iterator["pa.RecordBatch"]:
        import pyarrow as pa

        with pa.ipc.new_stream(self._kept, self._others_schema) as keeper:
            for done in self._sorted():
                first = self._blocks.lines + 1
                self._blocks.lines += done.lines
                if done.others is not None:
                    self.texts += len(done.others)
                    rows = int64(first + np.asarray(done.other_rows))
                    keeper.write_batch(pa.record_batch([rows, done.others], schema=self._others_schema))
                for places, plain in done.plain:
                    yield pa.record_batch([int64(first + places), *plain.columns], schema=self._schema)

    def _sorted(self) -> Iterator[Sorted]:
        """The blocks in order, each sorted out by one of several threads, a few ahead of the reader."""
        pending: deque[Future[Sorted]] = deque()
        pool = ThreadPoolExecutor(self._threads)
        try:
            for cut in self._blocks.cuts(BLOCK):
                pending.append(pool.submit(self._rules.sort_out, cut))
                if len(pending) > 2 * self._threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


class Rules:
    """What is plain in one layout."""

    def __init__(self, layout: Layout) -> None:
        import pyarrow as pa

        if layout.plain is None or len(layout.separator.encode()) != 1:
            raise ValueError(f"{layout.name} has no plain lines")
        self._separator = layout.separator
        self._columns: Mapping[str, PlainKind] = layout.plain.columns
        self._words = {
            name: strings(*(word.encode("ascii") for word in kind))
            for name, kind in self._columns.items()
            if isinstance(kind, tuple)
        }
        self._no_digits = {
            name: np.array([_no_digits(word.as_py().encode()) for word in words]) for name, words in self._words.items()
        }
        self._bounded = all(kind != "text" for kind in self._columns.values())
        alphabet = _alphabet(layout.plain, layout.separator)
        self._strange = bytes(byte not in alphabet for byte in range(256))
        self.schema = [("line", pa.string()), *((name, _type(kind)) for name, kind in self._columns.items())]

    def sort_out(self, cut: memoryview) -> Sorted:
        """Tell the plain lines of a block from the others; ``cut`` as :meth:`LineBlocks.cuts` gives it."""
        text = np.frombuffer(cut, np.uint8)
        ends = np.flatnonzero(text == _NEWLINE)
        clean = ends[0] == 0 or text[ends[0] - 1] != ord("\r")
        return (self._at_once(cut, text, ends) if self._bounded and clean else None) or self._sieve(
            normal(cut.tobytes())
        )

    def _at_once(self, cut: memoryview, text: NDArray[np.uint8], ends: Rows) -> Sorted | None:
        """The block, if it holds nothing but plain lines, and lines that would be if their words were known."""
        import pyarrow as pa

        try:
            table = self._table(cut, {name: _raw_type(kind) for name, kind in self._columns.items()})
        except pa.ArrowInvalid:
            return None
        number = len(ends)
        if table.num_rows != number:
            return None
        digits = len(text) - number * len(self._columns)
        good = np.ones(number, bool)
        columns = []
        for name, column in zip(self._columns, table.columns, strict=True):
            column = column.combine_chunks()
            if name in self._words:
                codes = self._codes(name, column)
                if codes.null_count:
                    unknown = np.flatnonzero(~np.asarray(codes.is_valid()))
                    good[unknown] = False
                    words = column.take(int64(unknown)).cast(pa.binary()).to_pylist()
                    if not all(map(bytes.isascii, words)):
                        return None
                    digits -= sum(map(_no_digits, words))
                    known = codes.indices.drop_null().to_numpy()
                else:
                    known = codes.indices.to_numpy()
                digits -= int(self._no_digits[name][known].sum())
                column = codes
            columns.append(column)
        # Arrow takes signs, blanks and 0x for integers too. Line ends, separators and words are known by now: if all
        # else are digits, the integers hold nothing but digits.
        if np.count_nonzero(text - ord("0") <= 9) != digits:
            return None
        others = np.flatnonzero(~good)
        return self._parted(_lines(cut, ends), columns, others) if len(others) <= FEW else None

    def _sieve(self, block: bytes) -> Sorted:
        """The plain lines of the block, and each other line."""
        import pyarrow as pa
        import pyarrow.compute as pc

        text = np.frombuffer(block, np.uint8)
        marks = np.flatnonzero((text == ord(self._separator)) | (text == _NEWLINE))
        line_marks = np.flatnonzero(text[marks] == _NEWLINE)
        ends = marks[line_marks]
        whole = Sorted(len(ends), [], strings(block[:-1]), np.zeros(1, np.int64))
        candidate = np.diff(line_marks, prepend=-1) == len(self._columns)
        candidate[np.searchsorted(ends, np.flatnonzero(np.frombuffer(block.translate(self._strange), np.uint8)))] = (
            False
        )
        rows = np.flatnonzero(candidate)
        if not len(rows):
            return whole
        chosen = text[np.repeat(candidate, np.diff(ends, prepend=-1))]
        table = self._table(memoryview(chosen), dict.fromkeys(self._columns, pa.string()))
        if table.num_rows != len(rows):
            return whole
        good = np.ones(len(rows), bool)
        columns = []
        for (name, kind), column in zip(self._columns.items(), table.columns, strict=True):
            column = column.combine_chunks()
            if kind == "integer":
                sure = pc.less_equal(pc.binary_length(column), SURE_DIGITS)
                good &= np.asarray(pc.and_(pc.ascii_is_decimal(column), sure))
            elif name in self._words:
                column = self._codes(name, column)
                good &= np.asarray(column.is_valid())
            columns.append(column)
        kept = np.flatnonzero(good)
        typed = [
            column.take(int64(kept)).cast(_type(kind))
            for column, kind in zip(columns, self._columns.values(), strict=True)
        ]
        candidate[rows[~good]] = False
        lines = _lines(memoryview(block), ends)
        rows = rows[kept]
        plain = [(rows, self._batch(lines.take(int64(rows)), typed))] if len(rows) else []
        return self._with_others(lines, plain, np.flatnonzero(~candidate))

    def _parted(self, lines: "pa.StringArray", columns: list["pa.Array"], others: Rows) -> Sorted:
        """Lines with their columns; ``others`` are not plain. They are few, so the runs between them are not copied."""
        whole = self._batch(lines, columns)
        starts, ends = [0, *(others + 1).tolist()], [*others.tolist(), len(lines)]
        runs = [
            (np.arange(start, end), whole.slice(start, end - start)) for start, end in zip(starts, ends, strict=True)
        ]
        return self._with_others(lines, [run for run in runs if len(run[0])], others)

    def _with_others(self, lines: "pa.StringArray", plain: list[tuple[Rows, "pa.RecordBatch"]], others: Rows) -> Sorted:
        import pyarrow.compute as pc

        if not len(others):
            return Sorted(len(lines), plain)
        return Sorted(len(lines), plain, pc.ascii_rtrim(lines.take(int64(others)), "\n"), others)

    def _table(self, text: memoryview, types: Mapping[str, "pa.DataType"]) -> "pa.Table":
        import pyarrow as pa
        from pyarrow import csv

        return csv.read_csv(
            pa.BufferReader(text),
            csv.ReadOptions(use_threads=False, column_names=list(self._columns), block_size=len(text) + 1),
            csv.ParseOptions(
                delimiter=self._separator,
                quote_char=False,
                double_quote=False,
                escape_char=False,
                newlines_in_values=False,
                ignore_empty_lines=False,
            ),
            csv.ConvertOptions(
                check_utf8=False, column_types=types, null_values=[], strings_can_be_null=False, auto_dict_encode=False
            ),
        )

    def _codes(self, name: str, column: "pa.Array") -> "pa.DictionaryArray":
        """Text as codes of the column's words; null: none of them."""
        import pyarrow as pa
        import pyarrow.compute as pc

        words = self._words[name]
        return pa.DictionaryArray.from_arrays(pc.index_in(column, value_set=words).cast(pa.int16()), words)

    def _batch(self, lines: "pa.Array", columns: list["pa.Array"]) -> "pa.RecordBatch":
        import pyarrow as pa

        return pa.record_batch([lines, *columns], schema=pa.schema(self.schema))


def _no_digits(word: bytes) -> int:
    return sum(byte not in b"0123456789" for byte in word)


def _alphabet(plain: Plain, separator: str) -> bytes:
    """Every byte that a plain line may hold, its line end included."""
    found = set(separator.encode() + b"\n")
    for kind in plain.columns.values():
        found |= set(
            "".join(kind).encode() if isinstance(kind, tuple) else b"0123456789" if kind == "integer" else _PRINTABLE
        )
    return bytes(found)


def _type(kind: PlainKind) -> "pa.DataType":
    import pyarrow as pa

    return pa.dictionary(pa.int16(), pa.string()) if isinstance(kind, tuple) else _raw_type(kind)


def _raw_type(kind: PlainKind) -> "pa.DataType":
    import pyarrow as pa

    return pa.int64() if kind == "integer" else pa.string()


def _lines(block: memoryview, ends: Rows) -> "pa.StringArray":
    """The lines of a block, each with its line end: nothing is copied."""
    import pyarrow as pa

    offsets = np.zeros(len(ends) + 1, np.int32)
    np.add(ends, 1, out=offsets[1:], casting="unsafe")
    return pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(block))
