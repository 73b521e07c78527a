"""One raw file through its layout's statements: the view ``parsed``, filled once or twice per file."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from hmar.errors import DataError
from pipeline.ingest.lines import LineBlocks, chunks
from pipeline.ingest.plain import PlainLines
from pipeline.sources import Layout, RawFile
from pipeline.storage.statements import statement

if TYPE_CHECKING:
    import pyarrow as pa


def read_file(connection: duckdb.DuckDBPyConnection, file: RawFile, keep: Callable[[], None]) -> int:
    """Read every row of a raw file.

    Args:
        keep: called when the view ``parsed`` holds rows of the file, as its layout's statements give them, and reads
            the view once. Each row of the file is in it in one of the calls. The variable ``unterminated`` is the
            number of the file's last line in a call of its own if no line end follows that line, else null.

    Returns:
        How many rows the file has: its lines without the header.

    Raises:
        DataError: the file is damaged or no text.
    """
    layout = file.layout
    for name, value in {**layout.variables, "unterminated": None}.items():
        connection.execute(f"set variable {name} = ?", [value])
    if layout.format == "parquet":
        return _read_parquet(connection, file, keep)
    blocks = LineBlocks(file.path, skip_header=bool(layout.header))
    with _failures_of(blocks):
        if layout.plain is None:
            _exactly(connection, layout, blocks.reader(), keep)
        else:
            _fast(connection, layout, blocks, keep)
    lines = blocks.lines
    if blocks.unterminated is not None:
        lines += 1
        connection.execute("set variable unterminated = ?", [lines])
        _exactly(connection, layout, chunks([(lines, blocks.unterminated)]), keep)
    return lines - bool(layout.header)


def _fast(connection: duckdb.DuckDBPyConnection, layout: Layout, blocks: LineBlocks, keep: Callable[[], None]) -> None:
    assert layout.plain is not None
    ((spill, threads),) = connection.execute(
        "select current_setting('temp_directory'), current_setting('threads')"
    ).fetchall()
    with closing(PlainLines(blocks, layout, Path(spill), threads)) as lines:
        with _registered(connection, "plain", lines.reader()):
            _view(connection, "parsed", layout.plain.statement)
            keep()
        if lines.texts:
            _exactly(connection, layout, lines.others(), keep)


def _exactly(
    connection: duckdb.DuckDBPyConnection, layout: Layout, reader: "pa.RecordBatchReader", keep: Callable[[], None]
) -> None:
    with _registered(connection, "chunks", reader):
        _view(connection, "lines", "ingest/10_lines")
        _parse(connection, layout, keep)


def _read_parquet(connection: duckdb.DuckDBPyConnection, file: RawFile, keep: Callable[[], None]) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        rows = parquet.read_metadata(file.path).num_rows
    except pa.ArrowInvalid as error:
        raise DataError(f"{file.path}: no readable Parquet ({error}); fetch the file again") from None
    name = str(file.path).replace("'", "''")
    connection.execute(
        "create or replace view rows as select file_row_number + 1 as source_row, * exclude (file_row_number) "
        f"from read_parquet('{name}', file_row_number = true)"
    )
    try:
        _parse(connection, file.layout, keep)
    except (duckdb.InvalidInputException, duckdb.SerializationException) as error:
        first = str(error).splitlines()[0]
        raise DataError(f"{file.path}: the Parquet data is damaged ({first}); fetch the file again") from None
    return int(rows)


def _parse(connection: duckdb.DuckDBPyConnection, layout: Layout, keep: Callable[[], None]) -> None:
    for view, name in layout.before:
        _view(connection, view, name)
    _view(connection, "parsed", layout.statement)
    keep()


def _view(connection: duckdb.DuckDBPyConnection, view: str, name: str) -> None:
    connection.execute(f"create or replace view {view} as {statement(name)}")


@contextmanager
def _registered(connection: duckdb.DuckDBPyConnection, name: str, reader: "pa.RecordBatchReader") -> Iterator[None]:
    connection.register(name, reader)
    try:
        yield
    finally:
        connection.unregister(name)


@contextmanager
def _failures_of(blocks: LineBlocks) -> Iterator[None]:
    """DuckDB passes on as text what ended the reading; here the error itself is raised."""
    try:
        yield
    except duckdb.Error:
        if blocks.failure is not None:
            raise blocks.failure from None
        raise
