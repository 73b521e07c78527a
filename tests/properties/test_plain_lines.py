"""The fast way and the exact way of reading delimited lines: whatever bytes a file holds, they give the same rows."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pipeline.ingest import lines as line_blocks
from pipeline.ingest import plain
from pipeline.ingest.reading import read_file
from pipeline.sources import SOURCES, Layout, RawFile
from pipeline.sources.base import PlainKind
from pipeline.storage.statements import statement

PARSED = "fault, user_id, item_id, behavior, time_us, category_id, value"
LAYOUTS = sorted(
    {
        (name, layout.name): (module, layout)
        for name, module in SOURCES.items()
        for layout in vars(module).values()
        if isinstance(layout, Layout) and layout.plain is not None
    }.items()
)

DIRTY = [
    "", "-1", "+1", " 1", "1 ", "\t1", "1\t", "1.5", ".5", "1.", "007", "1e3", "0x1F", "0X1", "-0", "1_0", "٣", "é",
    "000000000000000000000000000012", str(2**63 - 1), str(2**63), str(10**18), "9" * 30, "nan", "null", "NA", '"1"',
    '"', "1511539200", "001511539200", "1511539200000", "00000000001511539200", "4102444799", "4102444800",
    "99999999999", "100000000000", "99999999999999", "100000000000000", "\ufeff1", "\ufffe", "\x00", "\x0b1", "\x7f",
    "a\rb", "1\r",
]  # fmt: skip
JUNK = [b"", b" ", b"\r", b"\r\r", b'"', b"\xff\xfe", b"\xef\xbb\xbf", b"\xc3", b"\x00" * 3, b",,,,", b"," * 9, b"::"]


def tokens(kind: PlainKind) -> st.SearchStrategy[str]:
    if isinstance(kind, tuple):
        return st.one_of(st.sampled_from(kind), st.sampled_from(kind).map(str.upper), st.sampled_from(DIRTY))
    if kind == "integer":
        good = st.one_of(st.integers(0, 99), st.integers(0, 2**64), st.integers(1_511_539_000, 1_511_539_400)).map(str)
        return st.one_of(good, good, st.sampled_from(DIRTY))
    return st.one_of(st.sampled_from(["a1", "2014-12-06 02", "1111", "0626"]), st.sampled_from(DIRTY), st.text())


def good(kind: PlainKind) -> st.SearchStrategy[str]:
    if isinstance(kind, tuple):
        return st.sampled_from(kind)
    return st.integers(0, 99).map(str) if kind == "integer" else st.sampled_from(["a1", "1111"])


def files(layout: Layout) -> st.SearchStrategy[bytes]:
    assert layout.plain is not None
    kinds = layout.plain.columns.values()
    line = st.one_of(
        st.tuples(*map(good, kinds)).map(layout.separator.join).map(str.encode),
        st.tuples(*map(tokens, kinds))
        .map(layout.separator.join)
        .map(lambda text: text.encode("utf-8", "surrogatepass").replace(b"\n", b"")),
        st.sampled_from(JUNK),
        st.binary(max_size=12).map(lambda junk: junk.replace(b"\n", b"")),
    )
    head = layout.separator.join(layout.header).encode()
    return st.tuples(
        st.sampled_from([b"", b"\xef\xbb\xbf"]),
        st.lists(line, max_size=25),
        st.sampled_from([b"\n", b"\n", b"\r\n"]),
        st.booleans(),
    ).map(lambda f: f[0] + f[2].join([*([head] if head else []), *f[1]]) + (f[2] if f[3] else b""))


def rows(module: Any, layout: Layout, data: bytes) -> tuple[list[int | None], list[tuple[Any, ...]]]:
    """Every row of a file: number, line, and, unless there is a fault, what it stands for."""
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(config={"threads": 2}) as connection:
        connection.execute(f"set temp_directory = '{folder}'")
        connection.execute("set timezone = 'UTC'")
        connection.execute(f"create type behavior as enum ({', '.join(map(repr, module.BEHAVIORS))})")
        connection.execute(statement("ingest/00_faults"))
        path = Path(folder) / "raw"
        path.write_bytes(data)
        found: list[tuple[Any, ...]] = []
        counts: list[int | None] = []

        def keep() -> None:
            query = f"select source_row, rtrim(line, chr(10)), {PARSED} from parsed"
            found.extend(connection.execute(query).fetchall())
            counts.append(connection.execute("select getvariable('unterminated')").fetchall()[0][0])

        read = read_file(connection, RawFile(path, "raw", layout), keep)
    return [read, counts[-1]], sorted(row if row[2] is None else row[:3] for row in found)


@contextmanager
def block_size(size: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain, "BLOCK", size)
        patch.setattr(line_blocks, "BLOCK", size)
        yield


@pytest.mark.slow
@pytest.mark.parametrize(("module", "layout"), [found for _, found in LAYOUTS], ids=[" ".join(k) for k, _ in LAYOUTS])
def test_fast_way_gives_what_the_exact_way_gives(module: Any, layout: Layout) -> None:
    @settings(max_examples=150)
    @given(data=files(layout), block=st.sampled_from([7, 40, 4 * 2**20]))
    @example(data=b"", block=40)
    @example(data=b"\n", block=40)
    @example(data=b"\n\n1", block=40)
    def same(data: bytes, block: int) -> None:
        assume(not data.startswith((b"\xff\xfe", b"\xfe\xff")))  # UTF-16 is refused
        with block_size(block):
            fast = rows(module, layout, data)
        assert fast == rows(module, replace(layout, plain=None), data)

    same()


def test_plain_lines_take_the_fast_way() -> None:
    """Else the test above would compare the exact way with itself."""
    for _, (_, layout) in LAYOUTS:
        assert layout.plain is not None
        kinds = layout.plain.columns.values()
        line = layout.separator.join(kind[0] if isinstance(kind, tuple) else "1" for kind in kinds).encode() + b"\n"
        rules = plain.Rules(layout)
        done = rules.sort_out(memoryview(5 * line))
        assert [list(rows) for rows, _ in done.plain] == [[0, 1, 2, 3, 4]]
        assert done.others is None
        dirty = rules.sort_out(memoryview(5 * line + b'"\n' + 5 * line))
        assert dirty.lines == 11
        assert list(dirty.other_rows) == [5]
        assert [batch.num_rows for _, batch in dirty.plain] == [10]
