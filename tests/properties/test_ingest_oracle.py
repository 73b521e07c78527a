"""Any bytes at all, in any order: DuckDB's ingest against a few lines of plain Python that read the same file."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.stages.ingest import land
from tests.support.raw_logs import DAY, START, Event, quarantine, staged_events, taobao_rows
from tests.support.raw_logs import settings as run_settings

BEHAVIORS = ("pv", "fav", "cart", "buy")
NAME = "UserBehavior.csv"
LAYOUT = [row.encode() for row in taobao_rows(40)]
"""Good rows at the head, so that the file as a whole is taken for what it is."""


def integer(text: bytes) -> int | None:
    """The number that plain digits stand for, if it fits 64 bits."""
    if not text or text.strip(b"0123456789"):
        return None
    value = int(text)
    return value if value < 2**63 else None


def oracle(data: bytes) -> tuple[set[tuple[object, ...]], dict[int, str], int, int]:
    """Events (with category and row), reasons by row, duplicates, blank lines."""
    rows = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    unterminated = rows.pop() if rows[-1] == b"" else None
    last = None if unterminated is not None else len(rows)
    best: dict[tuple[object, ...], tuple[int, int]] = {}
    reasons: dict[int, str] = {}
    blank = good = 0
    for number, raw in enumerate(rows, start=1):
        line = raw.removesuffix(b"\r")
        if line.strip(b" ") == b"":
            blank += 1
            continue
        reason = fault(line)
        if number == last and reason in ("missing_columns", "bad_timestamp", "outside_window"):
            reason = "cut_line"
        if reason:
            reasons[number] = reason
            continue
        good += 1
        user, item, category, behavior, seconds = line.split(b",")
        key = (int(user), int(item), behavior.decode(), int(seconds))
        best[key] = min(best.get(key, (2**63, 0)), (int(category), number))
    return {(*key, *value) for key, value in best.items()}, reasons, good - len(best), blank


def fault(line: bytes) -> str:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return "invalid_utf8"
    if "\ufffe" in text:
        return "invalid_utf8"  # valid bytes, but no character of any text
    parts = line.split(b",")
    if len(parts) != 5:
        return "missing_columns" if len(parts) < 5 else "extra_columns"
    for part, name in zip(parts, ("bad_user_id", "bad_item_id", "bad_category_id"), strict=False):
        if integer(part) is None:
            digits = part.removeprefix(b"-")
            if not digits or digits.strip(b"0123456789"):
                return name
            return "negative_id" if part.startswith(b"-") else "id_overflow"
    if parts[3].decode() not in BEHAVIORS:
        return "unknown_behavior"
    stamp = parts[4]
    if not stamp or stamp.strip(b"0123456789"):
        return "bad_timestamp"
    if 12 <= len(stamp) <= 14:
        return "timestamp_in_milliseconds"
    if int(stamp) >= 4_102_444_800:
        return "timestamp_out_of_range"
    return "" if START <= int(stamp) < START + 9 * DAY else "outside_window"


ids = st.one_of(
    st.integers(0, 9).map(str),
    st.sampled_from(["", "-1", "+1", " 1", "1.5", "007", "1e3", str(2**63 - 1), str(2**63), "9" * 30, "é", "1_0"]),
)
stamps = st.one_of(
    st.integers(START, START + 3).map(str),
    st.sampled_from(
        ["", "x", "-1", "0", str(START - 1), str(START + 9 * DAY), f"{START}000", "4102444800", "9" * 25, "1.0"]
    ),
)
rows = st.one_of(
    st.tuples(ids, ids, ids, st.sampled_from([*BEHAVIORS, "view", "", "PV"]), stamps)
    .map(lambda r: ",".join(r).encode()),
    st.tuples(
        st.integers(1, 3).map(str), st.integers(1, 2).map(str), st.integers(0, 9).map(str), st.sampled_from(BEHAVIORS),
        st.integers(START, START + 2).map(str),
    ).map(lambda r: ",".join(r).encode()),
    st.sampled_from([
        b"", b" ", b"\r", b'"', b'"1,2', b"\x00", b"\x01", b"\xff\xfe", b"1,2,3,pv", b"\xef\xbf\xbe", b"a\rb",
    ]),
    st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")),
)  # fmt: skip
files = st.tuples(
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(rows, max_size=40),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
).map(lambda f: f[0] + f[2].join([*LAYOUT, *f[1]]) + (f[2] if f[3] else b""))


@pytest.mark.slow
@settings(max_examples=60)
@given(data=files, threads=st.sampled_from([1, 3]))
@example(data=b"\n".join(LAYOUT) + b"\n1,2,3,pv", threads=1)
@example(data=b"\n".join([*LAYOUT, b"1,\xff", b"", b"1,2,3,buy,1511539200"]), threads=3)
def test_every_line_is_what_the_oracle_says(data: bytes, threads: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / NAME
        raw.write_bytes(data)
        s = run_settings("taobao", raw, Path(folder) / "home", engine={"threads": threads, "memory_limit": "1GB"})
        landed = land(s)
        events, reasons, duplicates, blank = oracle(data)
        found = staged_events(landed)
        assert {_comparable(event) for event in found} == events
        assert {row.source_row: row.reason for row in quarantine(s, landed)} == reasons
        accounts = landed.accounts
        assert (accounts.events, accounts.duplicates, accounts.quarantined, accounts.blank_lines) == (
            len(events), duplicates, len(reasons), blank,
        )  # fmt: skip
        assert accounts.rows == accounts.events + accounts.duplicates + accounts.quarantined
        assert accounts.rows + blank == len(data.removesuffix(b"\n").split(b"\n"))


def _comparable(event: Event) -> tuple[object, ...]:
    return (event.user_id, event.item_id, event.behavior, event.time, event.category_id, event.source_row)
