"""Physical lines of raw files, none lost and none renumbered, whatever bytes they hold.

DuckDB's CSV reader drops blank lines, stops at bytes that are not UTF-8 and cannot number lines in parallel. So files
are cut into blocks of whole lines here, which costs one newline count per block, and DuckDB splits the blocks.
"""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

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

_BOM = codecs.BOM_UTF8
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _mark_bytes(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"{MARK}x{byte:02x}" for byte in error.object[error.start : error.end]), error.end


codecs.register_error("hmar-mark", _mark_bytes)


@contextmanager
def open_raw(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, decompressed if its first bytes say gzip.

    Raises:
        DataError: the compressed data is damaged or ends early.
    """
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        try:
            yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if zipped else raw
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path}: the gzip data is damaged or cut ({error}); fetch the file again") from None


def sample(path: Path, limit: int = SAMPLE_LINES) -> list[tuple[int, str]]:
    """The first lines that are not blank, with their numbers.

    Raises:
        DataError: the file cannot be read, is empty or is not a text of lines.
    """
    try:
        with open_raw(path) as stream:
            head = _without_bom(path, stream.read(BLOCK))
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
    """A raw file as a stream of blocks for DuckDB; read once, then ``lines`` and ``unterminated`` are known."""

    def __init__(self, path: Path, skip_header: bool) -> None:
        self.path = path
        self.lines = 0
        """Physical lines read so far, the header among them."""
        self.unterminated: int | None = None
        """Number of the last line if no line end follows it."""
        self.unterminated_text = ""
        self.failure: Exception | None = None
        """What ended the reading early: DuckDB passes it on as text only."""
        self._skip_header = skip_header

    def reader(self) -> "pa.RecordBatchReader":
        """Batches of one row: first_row (int64, number of the block's first line) and text (its lines, one string).

        Reading fails where :meth:`blocks` does, then ``failure`` tells why.
        """
        import pyarrow as pa

        schema = pa.schema([("first_row", pa.int64()), ("text", pa.string())])
        return pa.RecordBatchReader.from_batches(
            schema,
            # Buffers rather than pa.array, which imports pandas the first time it meets a Python object.
            (pa.record_batch([_one_int64(row), _one_string(text)], schema=schema) for row, text in self._remembering()),
        )

    def _remembering(self) -> Iterator[tuple[int, bytes]]:
        try:
            yield from self.blocks()
        except Exception as error:
            self.failure = error
            raise

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Number of the first line, and UTF-8 text of whole lines, LF between them and none at the end.

        Raises:
            DataError: damaged gzip data, UTF-16, or a line longer than ``LONGEST``.
        """
        with open_raw(self.path) as stream:
            rest, first = b"", True
            while piece := stream.read(BLOCK):
                if first:
                    piece = _without_bom(self.path, piece)
                block = rest + piece
                cut = block.rfind(b"\n") + 1
                if not cut and len(block) > LONGEST:
                    raise DataError(
                        f"{self.path}, line {self.lines + 1}: longer than {LONGEST // 2**20} MiB; this is no text log"
                    )
                rest = block[cut:]
                if cut:
                    yield from self._numbered(block[: cut - 1])
                first = False
            if rest:
                yield from self._numbered(rest)
                self.unterminated = self.lines
                self.unterminated_text = rest.rpartition(b"\n")[2].decode("utf-8", "hmar-mark")

    def _numbered(self, block: bytes) -> Iterator[tuple[int, bytes]]:
        if self._skip_header and self.lines == 0:
            self.lines = 1
            _, newline, block = block.partition(b"\n")
            if not newline:
                return
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").removesuffix(b"\r")
        if not block.isascii():
            block = _valid(block)
        row = self.lines + 1
        self.lines += block.count(b"\n") + 1
        yield row, block


def _valid(block: bytes) -> bytes:
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        return block.decode("utf-8", "hmar-mark").encode("utf-8")
    return block


def _without_bom(path: Path, head: bytes) -> bytes:
    if head.startswith(_WIDE):
        raise DataError(f"{path}: the file is UTF-16; convert it to UTF-8")
    return head.removeprefix(_BOM)


def _one_int64(value: int) -> "pa.Array":
    import pyarrow as pa

    return pa.Array.from_buffers(pa.int64(), 1, [None, pa.py_buffer(value.to_bytes(8, "little", signed=True))])


def _one_string(text: bytes) -> "pa.Array":
    import pyarrow as pa

    offsets = bytes(4) + len(text).to_bytes(4, "little")
    return pa.StringArray.from_buffers(1, pa.py_buffer(offsets), pa.py_buffer(text))
