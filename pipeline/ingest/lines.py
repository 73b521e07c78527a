"""Physical lines of raw files, none lost and none renumbered, whatever bytes they hold.

DuckDB's CSV reader drops blank lines, stops at bytes that are not UTF-8 and cannot number lines in parallel. So files
are cut into blocks of whole lines here, which costs one newline count per block, and DuckDB splits the blocks.
"""

import codecs
import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from hmar.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 512 * 1024
"""Bytes per block: large enough to make the count cheap, small enough to keep every thread busy."""
LONGEST = 16 * 1024 * 1024
"""Bytes of the longest line that is still taken for text."""
SAMPLE_LINES = 200
MARK = "\ufffe"
"""Stands before each byte that is not UTF-8. It is no character of any text, so it cannot be there by right."""

T = TypeVar("T")

_BOM = codecs.BOM_UTF8
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _mark_bytes(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"{MARK}x{byte:02x}" for byte in error.object[error.start : error.end]), error.end


codecs.register_error("hmar-mark", _mark_bytes)


@contextmanager
def open_raw(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed if its first bytes say gzip or Zstandard.

    Raises:
        DataError: the compressed data is damaged or ends early, or the file is an archive of files.
    """
    with path.open("rb") as raw:
        magic = raw.read(4)
        raw.seek(0)
        if magic == b"PK\x03\x04":
            raise DataError(f"{path}: a zip archive; unzip it and give the file in it")
        try:
            if magic.startswith(b"\x1f\x8b"):
                yield cast(BinaryIO, gzip.GzipFile(fileobj=raw))
            elif magic == b"\x28\xb5\x2f\xfd":
                with _unpacked(raw) as stream:
                    yield stream
            else:
                yield raw
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path}: the gzip data is damaged or cut ({error}); fetch the file again") from None
        except OSError as error:
            # Arrow's own errors have no number, those of the operating system have.
            if magic != b"\x28\xb5\x2f\xfd" or error.errno is not None:
                raise
            raise DataError(f"{path}: the Zstandard data is damaged or cut ({error}); fetch the file again") from None


@contextmanager
def _unpacked(raw: BinaryIO) -> Iterator[BinaryIO]:
    import pyarrow as pa

    with pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd") as stream:
        yield cast(BinaryIO, stream)


def sample(path: Path, limit: int = SAMPLE_LINES) -> list[tuple[int, str]]:
    """The first lines that are not blank, with their numbers.

    Raises:
        DataError: the file cannot be read, is empty or is not a text of lines.
    """
    try:
        with open_raw(path) as stream:
            head = stream.read(BLOCK)
            head = head[_bom_length(path, head) :]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; give a file that can be read") from None
    lines = head.split(b"\n")
    # A block may end inside a line; only a file that ends there too really has that line.
    whole = lines if len(head) < BLOCK - len(_BOM) or len(lines) == 1 else lines[:-1]
    found = [
        (number, line.removesuffix(b"\r").decode("utf-8", "hmar-mark"))
        for number, line in enumerate(whole, start=1)
        if line.strip()
    ][:limit]
    if not found:
        raise DataError(f"{path}: the file is empty; deliver it again")
    return found


class LineBlocks:
    """A raw file as a stream of whole lines; read it once, then ``lines`` and ``unterminated`` are known."""

    def __init__(self, path: Path, skip_header: bool) -> None:
        self.path = path
        self.lines = 0
        """Lines so far, the header among them, an unterminated last one not. Who reads :meth:`cuts` counts them."""
        self.unterminated: bytes | None = None
        """The last line if no line end follows it, as :func:`normal` gives it. It is in no block."""
        self.failure: Exception | None = None
        """What ended the reading early: DuckDB passes it on as text only."""
        self._skip_header = skip_header

    def reader(self) -> "pa.RecordBatchReader":
        """Batches of one row: first_row (int64, number of the block's first line) and text (its lines, one string).

        Text is UTF-8 as :func:`normal` gives it, LF between lines and none at the end. Reading fails where
        :meth:`cuts` does, then ``failure`` tells why.
        """
        return chunks(self.remembering(self._numbered()))

    def remembering(self, parts: Iterable[T]) -> Iterator[T]:
        """``parts``, with ``failure`` set when they end in an error."""
        try:
            yield from parts
        except Exception as error:
            self.failure = error
            raise

    def cuts(self, size: int) -> Iterator[memoryview]:
        """Whole lines as they stand in the file, each with its line end, about ``size`` bytes at a time.

        Byte order mark and header are left out.

        Raises:
            DataError: damaged compressed data, UTF-16, or a line longer than ``LONGEST``.
        """
        header, carried, first, behind = self._skip_header, b"", True, 0
        with open_raw(self.path) as stream:
            while True:
                # A buffer of its own per block: others work on earlier ones meanwhile.
                buffer = bytearray(len(carried) + size)
                buffer[: len(carried)] = carried
                read = _fill(stream, memoryview(buffer)[len(carried) :])
                start, end = 0, len(carried) + read
                if first:
                    start, first = _bom_length(self.path, buffer), False
                cut = buffer.rfind(b"\n", 0, end) + 1
                if not cut and end > LONGEST:
                    raise DataError(
                        f"{self.path}, line {self._line_at(behind)}: longer than {LONGEST // 2**20} MiB; "
                        "this is no text log"
                    )
                if cut and header:
                    self.lines, header = 1, False
                    start = buffer.index(b"\n") + 1
                if start < cut:
                    yield memoryview(buffer)[start:cut]
                carried = bytes(buffer[max(start, cut) : end])
                behind += max(start, cut)
                if read < size:
                    break
        if carried and header:
            self.lines = 1
        elif carried:
            self.unterminated = normal(carried)

    def _line_at(self, offset: int) -> int:
        """Number of the line that begins ``offset`` bytes into the file."""
        number = 1
        with open_raw(self.path) as stream:
            while offset:
                piece = stream.read(min(offset, BLOCK))
                number += piece.count(b"\n")
                offset -= len(piece)
        return number

    def _numbered(self) -> Iterator[tuple[int, bytes]]:
        for cut in self.cuts(BLOCK):
            block = normal(cut[:-1].tobytes())
            row = self.lines + 1
            self.lines += block.count(b"\n") + 1
            yield row, block


def chunks(texts: Iterable[tuple[int, bytes]]) -> "pa.RecordBatchReader":
    """Texts with the number of their first line as batches of one row: first_row (int64) and text (string)."""
    import numpy as np
    import pyarrow as pa

    from pipeline.ingest.arrow import int64, strings

    schema = pa.schema([("first_row", pa.int64()), ("text", pa.string())])
    return pa.RecordBatchReader.from_batches(
        schema,
        (pa.record_batch([int64(np.array([row])), strings(text)], schema=schema) for row, text in texts),
    )


def normal(block: bytes) -> bytes:
    """The block with LF for CRLF, and :data:`MARK` and two hexadecimal digits for each byte that is not UTF-8."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n").removesuffix(b"\r")
    if not block.isascii():
        block = _valid(block)
    return block


def _valid(block: bytes) -> bytes:
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return block.decode("utf-8", "hmar-mark").encode("utf-8")
    return block


def _bom_length(path: Path, head: bytes | bytearray) -> int:
    if head.startswith(_WIDE):
        raise DataError(f"{path}: the file is UTF-16; convert it to UTF-8")
    return len(_BOM) if head.startswith(_BOM) else 0


def _fill(stream: BinaryIO, buffer: memoryview) -> int:
    """Bytes read: fewer than the buffer holds only at the end of the file."""
    filled = 0
    while filled < len(buffer):
        read = stream.readinto(buffer[filled:])  # type: ignore[attr-defined]
        if not read:
            break
        filled += read
    return filled
