"""One's own log: four formats with the same events, columns by name, local times, and refusals that say what to set."""

import gzip
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from pyarrow import parquet

from hmar.errors import DataError
from pipeline.ingest.reading import read_file
from pipeline.settings import EngineSettings, RetrainSettings
from pipeline.sources import RawFile, Source, delivery, source_of
from pipeline.sources.table import TableSource
from pipeline.stages.ingest import land
from pipeline.storage.engine import connect
from pipeline.storage.events_store import read_manifest
from pipeline.storage.statements import statement
from tests.support.one_file import Outcome, Stored, ingest
from tests.support.raw_logs import land_and_publish, lines, settings, write

SHOP: dict[str, Any] = {
    "user": "customer",
    "item": "sku",
    "behavior": "action",
    "time": "at",
    "behaviors": [{"view": ["pv", "detail"]}, "cart", "buy"],
}
MOMENT = 1_511_539_200
"""2017-11-24 16:00:00 UTC."""
Row = dict[str, Any]


def rows(count: int = 40) -> list[Row]:
    """Good rows of a shop's log."""
    actions = ("pv", "detail", "cart", "buy")
    return [
        {
            "customer": 100 + n % 7,
            "sku": n * 7 % 31,
            "action": actions[n % 4],
            "at": MOMENT + 61 * n,
            "kind": n % 5 if n % 3 else None,
            "price": 1.5 * n,
        }
        for n in range(count)
    ]


def delimited(given: list[Row], separator: str = ",") -> str:
    """The rows with a header; a null is an empty text, a text that needs quotes has them."""

    def cell(value: Any) -> str:
        text = "" if value is None else str(value)
        return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in (separator, '"')) else text

    return lines([separator.join(given[0]), *(separator.join(map(cell, one.values())) for one in given)])


def run(raw: Path, home: Path, table: Mapping[str, Any], **values: Any) -> Outcome:
    return ingest("table", raw, home, name="shop", table=dict(table), **values)


def text(directory: Path, content: str | bytes, table: Mapping[str, Any] = SHOP, name: str = "log.csv") -> Outcome:
    return run(write(directory / "raw" / name, content), directory / "home", table)


def refusal(directory: Path, content: str | bytes, table: Mapping[str, Any] = SHOP, name: str = "log.csv") -> str:
    """The one line with which a file is refused before anything is read."""
    path = write(directory / "raw" / name, content)
    s = settings("table", path, directory / "home", name="shop", table=dict(table))
    with pytest.raises(DataError) as refused:
        delivery(source_of(s), path)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def written(directory: Path) -> dict[str, Path]:
    """The same rows in every format."""
    given = rows()
    folder = directory / "raw"
    columns = {key: [one[key] for one in given] for key in given[0]}
    folder.mkdir(parents=True)
    parquet.write_table(pa.table(columns), folder / "log.parquet")
    plain = {
        "log.csv": delimited(given),
        "log.tsv": delimited(given, "\t"),
        "log.jsonl": lines(json.dumps(one) for one in given),
    }
    for name, content in plain.items():
        write(folder / name, content)
    write(folder / "log.csv.gz", gzip.compress(plain["log.csv"].encode()))
    write(folder / "log.json.zst", pa.compress(plain["log.jsonl"].encode(), "zstd", asbytes=True))
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("line", "layout", "found"),
    [
        ("7,wish,8,1", "CSV (customer, action, sku, at)", "wish"),
        ("7\twish, b\t8\t1", "TSV (customer, action, sku, at)", "wish, b"),
        ("7,wish,8 and a text that was cut", "CSV (customer, action, sku, at)", "wish"),
        ("7,wis", "CSV (customer, action, sku, at)", "7,wis"),
        ("7,8,9,wish,1", "CSV (customer, a, b, action, at)", "wish"),
        ("7,8,wish,1", "CSV (customer, a, b, action, at)", "7,8,wish,1"),
        ('{"action": "wish"}', "Parquet (customer, action)", "wish"),
    ],
)
def test_the_code_of_a_raw_line_stands_where_its_files_header_says(line: str, layout: str, found: str) -> None:
    source = source_of(settings("table", Path("log.csv"), Path("home"), name="shop", table=SHOP))
    assert isinstance(source, TableSource)
    assert source.behavior_code(line, layout) == found


@pytest.mark.parametrize("ids", ["string", "int64"])
def test_all_formats_give_the_same_events(tmp_path: Path, ids: str) -> None:
    table = {**SHOP, "ids": ids, "category": "kind", "value": "price"}
    digests = {}
    for name, path in written(tmp_path).items():
        s = settings("table", path, tmp_path / name, name="shop", table=table)
        landed = land(s)
        assert landed.accounts.events == 40, name
        manifest = read_manifest(landed.staging)
        digests[name] = manifest.digest
        assert manifest.user_id_type == manifest.item_id_type == manifest.category_id_type == ids
    assert len(digests) == 6
    assert len(set(digests.values())) == 1, digests


@pytest.mark.parametrize(("ids", "users"), [("string", 2), ("int64", 1)])
def test_leading_zeros_make_other_texts_and_the_same_number(tmp_path: Path, ids: str, users: int) -> None:
    log = lines(["customer,sku,action,at", f"0007,1,pv,{MOMENT}", f"7,1,pv,{MOMENT + 1}"])
    assert len({one.user for one in text(tmp_path, log, {**SHOP, "ids": ids}).events.values()}) == users


def test_a_row_has_what_its_columns_say(tmp_path: Path) -> None:
    table = {**SHOP, "category": "kind", "value": "price", "ids": {"user": "int64", "category": "int64"}}
    found = text(tmp_path, delimited(rows()), table)
    moment = datetime(2017, 11, 24, 16, tzinfo=UTC)
    assert found.row(2) == Stored(100, "0", "view", moment, None, 0.0)
    assert found.row(5) == Stored(103, "21", "buy", moment + timedelta(seconds=183), None, 4.5)
    assert found.row(6) == Stored(104, "28", "view", moment + timedelta(seconds=244), 4, 6.0)


def parsed(origin: Source, file: RawFile, spill: Path) -> list[tuple[Any, ...]]:
    """Line number, fault and, of good rows, the typed columns."""
    with connect(EngineSettings(threads=2, memory_limit="500MB"), spill) as connection:
        connection.execute(f"create type behavior as enum ({', '.join(f'{name!r}' for name in origin.BEHAVIORS)})")
        connection.execute(statement("ingest/00_faults"))
        connection.execute(statement("ingest/01_table"))
        connection.execute(
            "create table kept (source_row bigint, fault varchar, user_id bigint, item_id bigint, behavior behavior, "
            "time_us bigint, category_id bigint, value double)"
        )

        def keep() -> None:
            connection.execute("insert into kept by name select * exclude (line) from parsed")

        read_file(connection, file, keep)
        return connection.execute(
            "select source_row, fault, if(fault is null, kept, null) from kept order by source_row"
        ).fetchall()


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_fast_and_exact_way_agree(tmp_path: Path, separator: str, end: str) -> None:
    table = {**SHOP, "ids": "int64", "category": "kind", "separator": separator}
    good = delimited([{**one, "kind": 3, "price": "a b"} for one in rows()])
    odd = ["x,1,pv,1511539200,3,", "1,2,wish,1511539200,3,", "1,2,pv,1511539200000,3,", "1,2,buy,99999999999,3,"]
    odd += ["1,2,buy,1511539200,,", "007,2,cart,0001511539200,3,", "1,2,pv,1511539200.5,3,", '1,2,pv,"1511539201",3,']
    odd += ["1,2,pv,0,3,", "1,2,pv,1511539200,-3,", "99999999999999999999,2,pv,1511539200,3,", "1,2,pv", " "]
    odd += ["1,2,pv,4102444799,3,", "1,2,pv,4102444800,3,", "1,2,pv,99999999999999,3,", "1,2,pv,100000000000000,3,"]
    path = write(tmp_path / "log.csv", (good + lines(odd)).replace(",", separator).replace("\n", end))
    s = settings("table", path, tmp_path / "home", name="shop", table=table)
    origin = source_of(s)
    (file,) = delivery(origin, path)
    assert file.layout.plain is not None
    fast = parsed(origin, file, tmp_path)
    exact = parsed(origin, replace(file, layout=replace(file.layout, plain=None)), tmp_path)
    assert fast == exact
    assert len(exact) == 40 + len(odd)
    faults = {fault for _, fault, _ in exact}
    assert {None, "bad_user_id", "unknown_behavior", "timestamp_in_milliseconds", "id_overflow", "blank"} < faults


BAD: dict[str, tuple[str, str]] = {
    "no user": (",1,pv,1511539200", "bad_user_id"),
    "null as a word": ("NULL,1,pv,1511539200", "bad_user_id"),
    "blanks around an id": ("7 ,1,pv,1511539200", "bad_user_id"),
    "no item": ("7,,pv,1511539200", "bad_item_id"),
    "new code": ("7,1,wish,1511539200", "unknown_behavior"),
    "no code": ("7,1,,1511539200", "unknown_behavior"),
    "code in capitals": ("7,1,PV,1511539200", "unknown_behavior"),
    "milliseconds": ("7,1,pv,1511539200000", "timestamp_in_milliseconds"),
    "far future": ("7,1,pv,9999999999", "timestamp_out_of_range"),
    "before the preset's 1990": ("7,1,pv,0", "outside_window"),
    "negative time": ("7,1,pv,-5", "bad_timestamp"),
    "a date": ("7,1,pv,2017-11-25", "bad_timestamp"),
    "no time": ("7,1,pv,", "bad_timestamp"),
    "too few columns": ("7,1,pv", "missing_columns"),
    "too many columns": ("7,1,pv,1511539200,9", "extra_columns"),
    "open quote": ('"7,1,pv,1511539200', "bad_quotes"),
    "text after a quote": ('"7"x,1,pv,1511539200', "bad_quotes"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_row_is_quarantined_with_its_reason(tmp_path: Path, case: str) -> None:
    row, reason = BAD[case]
    four = [{key: one[key] for key in ("customer", "sku", "action", "at")} for one in rows()]
    found = text(tmp_path, delimited(four) + row + "\n")
    assert found.reasons == {("log.csv", 42): reason}
    assert found.accounts.events == 40


def test_integer_ids_are_asked_for_where_they_are_declared(tmp_path: Path) -> None:
    odd = ["x1,1,pv,1511539200", "-4,1,pv,1511539200", "99999999999999999999,1,pv,1511539200", "4,1.0,pv,1511539200"]
    four = [{key: one[key] for key in ("customer", "sku", "action", "at")} for one in rows()]
    found = text(tmp_path, delimited(four) + lines(odd), {**SHOP, "ids": "int64"})
    assert list(found.reasons.values()) == ["bad_user_id", "negative_id", "id_overflow", "bad_item_id"]


def test_quotes_separators_and_line_ends_of_other_systems(tmp_path: Path) -> None:
    header = 'note,"customer",sku,action,at'
    log = [
        '"said ""hi"", twice",a b,"x,1",pv,1511539200',
        'plain,"c""d",x2,"cart","1511539201"',
        ',é,5" pipe,buy,1511539202',
    ]
    found = text(tmp_path, "\ufeff" + "".join(f"{line}\r\n" for line in [header, *log]))
    stored = [(one.user, one.item, one.behavior) for _, one in sorted(found.events.items())]
    assert stored == [("a b", "x,1", "view"), ('c"d', "x2", "cart"), ("é", '5" pipe', "buy")]


def test_value_with_a_line_end_is_refused_not_guessed(tmp_path: Path) -> None:
    log = delimited([{**one, "note": "fine"} for one in rows()]) + '7,1,pv,1511539200,,,"two\nlines"\n'
    found = text(tmp_path, log)
    assert sorted(found.reasons.items()) == [(("log.csv", 42), "bad_quotes"), (("log.csv", 43), "missing_columns")]


def test_quotes_are_text_where_the_settings_say_so(tmp_path: Path) -> None:
    log = 'customer\tsku\taction\tat\n7\t"5"" x\tpv\t1511539200\n8\t"x\tbuy\t1511539201\n'
    found = text(tmp_path, log, {**SHOP, "quoted": False}, "log.tsv")
    assert [one.item for _, one in sorted(found.events.items())] == ['"5"" x', '"x']


@pytest.mark.parametrize("separator", [";", "|", "^", "\\", "]", "-", " "])
def test_any_separator(tmp_path: Path, separator: str) -> None:
    given = [{"customer": f"a{separator}b", "sku": 'q"q', "action": "pv", "at": MOMENT + n} for n in range(3)]
    found = text(tmp_path, delimited(given, separator), {**SHOP, "separator": separator})
    assert {(one.user, one.item) for one in found.events.values()} == {(f"a{separator}b", 'q"q')}
    assert len(found.events) == 3


@pytest.mark.parametrize("columns", [["customer", "sku", "action", "at"], 4])
def test_file_without_a_header(tmp_path: Path, columns: Any) -> None:
    table = {**SHOP, "columns": columns}
    if columns == 4:
        table |= {"user": 1, "item": 2, "behavior": 3, "time": 4}
    found = text(tmp_path, "7\t1\tpv\t1511539200\n8\t2\tbuy\t1511539201\n", table, "log.tsv.gz")
    assert [one.user for _, one in sorted(found.events.items())] == ["7", "8"]
    assert "found 5 column(s)" in refusal(tmp_path, "7\t1\tpv\t1511539200\tx\n" * 3, table, "log.tsv")
    assert "reads like a header" in refusal(
        tmp_path, "customer\tsku\taction\tat\n7\t1\tpv\t1511539200\n", table, "h.tsv"
    )


def test_dotted_keys_and_values_that_are_no_plain_ones(tmp_path: Path) -> None:
    table = {**SHOP, "user": "who.id", "item": "what.sku code"}
    good = {"who": {"id": 7, "x": 1}, "what": {"sku code": 'a"b é'}, "action": "pv", "at": MOMENT}
    log = [
        *(json.dumps({**good, "at": MOMENT + n}) for n in range(10)),
        json.dumps({**good, "who": 7}),
        json.dumps({**good, "what": {"sku code": [1]}}),
        json.dumps({**good, "at": None}),
        "[1, 2]",
        "7",
        json.dumps(good)[:-1],
        "{'who': 7}",
        json.dumps({**good, "who": {"id": 12345678901234567890123}}),
    ]
    found = text(tmp_path, lines(log), table, "log.jsonl")
    assert found.row(1) == Stored("7", 'a"b é', "view", datetime(2017, 11, 24, 16, tzinfo=UTC), None, None)
    assert [found.row(n) for n in range(11, 18)] == [
        "bad_user_id", "bad_item_id", "bad_timestamp", "bad_json", "bad_json", "bad_json", "bad_json",
    ]  # fmt: skip
    last = found.row(18)
    assert isinstance(last, Stored)
    assert last.user == "12345678901234567890123"


TIMES: dict[str, tuple[Any, str, str]] = {
    "seconds": ({}, "1511573430", "01:30:30"),
    "fraction": ({}, "1511573430.25", "01:30:30.250000"),
    "milliseconds": ({"unit": "milliseconds"}, "1511573430250", "01:30:30.250000"),
    "microseconds": ({"unit": "microseconds"}, "1511573430250001", "01:30:30.250001"),
    "iso8601": ({"unit": "iso8601"}, "2017-11-25T01:30:30", "01:30:30"),
    "iso8601 with Z": ({"unit": "iso8601"}, "2017-11-25T01:30:30.123456789Z", "01:30:30.123456"),
    "iso8601 with an offset": ({"unit": "iso8601"}, "2017-11-25 09:30:30+0800", "01:30:30"),
    "iso8601 with a comma": ({"unit": "iso8601"}, "2017-11-25T01:30:30,5", "01:30:30.500000"),
    "iso8601 in a zone": ({"unit": "iso8601", "zone": "Asia/Shanghai"}, "2017-11-25T09:30:30", "01:30:30"),
    "its own offset beats the zone": ({"unit": "iso8601", "zone": "Asia/Shanghai"}, "2017-11-25T01:30:30Z", "01:30:30"),
    "date": ({"unit": "date"}, "2017-11-25", "00:00:00"),
    "date in a zone": ({"unit": "date", "zone": "America/New_York"}, "2017-11-25", "05:00:00"),
    "format": ({"format": "%d.%m.%y %H:%M"}, "25.11.17 01:30", "01:30:00"),
    "format in a zone": ({"format": "%Y%m%d%H%M%S", "zone": "Europe/Berlin"}, "20171125023030", "01:30:30"),
    "format with an offset": ({"format": "%Y-%m-%d %H:%M %z"}, "2017-11-25 09:30 +0800", "01:30:00"),
}


@pytest.mark.parametrize("case", TIMES)
def test_time_as_it_is_written(tmp_path: Path, case: str) -> None:
    how, when, expected = TIMES[case]
    log = lines(["customer;sku;action;at", *(f"{n};1;pv;{when}" for n in range(3))])
    found = text(tmp_path, log, {**SHOP, "separator": ";", "time": {"column": "at", **how}})
    assert {one.time.isoformat() for one in found.events.values()} == {f"2017-11-25T{expected}+00:00"}
    assert len(found.events) == 3


def local(*moments: str) -> str:
    good = [f"{n},1,pv,2024-06-01 12:00:{n:02}" for n in range(20)]
    return lines(["customer,sku,action,at", *good, *(f"7,1,pv,{moment}" for moment in moments)])


CLOCKS = {
    # zone: the last moment before the gap, one inside, the first after it; the same around the hour that comes twice
    "Europe/Berlin": (
        ["2024-03-31 01:59:59", "2024-03-31 02:30:00", "2024-03-31 03:00:00"],
        ["2024-10-27 01:59:59", "2024-10-27 02:00:00", "2024-10-27 02:59:59", "2024-10-27 03:00:00"],
    ),
    "America/New_York": (
        ["2024-03-10 01:59:59", "2024-03-10 02:00:00", "2024-03-10 03:00:00"],
        ["2024-11-03 00:59:59", "2024-11-03 01:00:00", "2024-11-03 01:59:59", "2024-11-03 02:00:00"],
    ),
    "Australia/Lord_Howe": (
        ["2024-10-06 01:59:59", "2024-10-06 02:15:00", "2024-10-06 02:30:00"],
        ["2024-04-07 01:29:59", "2024-04-07 01:30:00", "2024-04-07 01:59:59", "2024-04-07 02:00:00"],
    ),
}


@pytest.mark.parametrize("zone", CLOCKS)
@pytest.mark.parametrize("ambiguous", ["quarantine", "earlier", "later"])
def test_local_times_around_the_change_of_clocks(tmp_path: Path, zone: str, ambiguous: str) -> None:
    gap, twice = CLOCKS[zone]
    table = {**SHOP, "time": {"column": "at", "unit": "iso8601", "zone": zone, "ambiguous": ambiguous}}
    found = run(write(tmp_path / "raw.csv", local(*gap, *twice)), tmp_path / "home", table)
    for number, moment in enumerate([*gap, *twice], start=22):
        result = found.row(number)
        if moment == gap[1]:
            assert result == "nonexistent_local_time"
        elif moment in twice[1:3] and ambiguous == "quarantine":
            assert result == "ambiguous_local_time"
        else:
            # Python's own zones as the oracle: fold says which of two equal local times is meant.
            fold = int(ambiguous == "later" and moment in twice[1:3])
            expected = datetime.fromisoformat(moment).replace(tzinfo=ZoneInfo(zone), fold=fold)
            assert isinstance(result, Stored)
            assert result.time == expected.astimezone(UTC), moment


def test_parquet_timestamps_need_no_unit(tmp_path: Path) -> None:
    naive = [datetime(2024, 10, 27, 2, 30), datetime(2024, 6, 1, 12), datetime(2024, 6, 1, 13)]
    columns = {"customer": [1, 2, 3], "sku": ["a", "b", "c"], "action": ["pv"] * 3}
    kinds = {
        "local": pa.array(naive, pa.timestamp("ns")),
        "moment": pa.array([one.replace(tzinfo=UTC) for one in naive], pa.timestamp("ms", "UTC")),
        "day": pa.array([one.date() for one in naive], pa.date32()),
    }
    found = {}
    for name, times in kinds.items():
        path = tmp_path / f"{name}.parquet"
        parquet.write_table(pa.table({**columns, "at": times}), path)
        table = {**SHOP, "time": {"column": "at", "zone": "Europe/Berlin", "ambiguous": "later"}}
        found[name] = run(path, tmp_path / f"home {name}", table)
    assert [found["local"].row(n) for n in (1, 2)] == [
        Stored("1", "a", "view", datetime(2024, 10, 27, 1, 30, tzinfo=UTC), None, None),
        Stored("2", "b", "view", datetime(2024, 6, 1, 10, tzinfo=UTC), None, None),
    ]
    moments = [one.time for _, one in sorted(found["moment"].events.items())]
    assert moments == [one.replace(tzinfo=UTC) for one in naive]
    assert found["day"].events["day.parquet", 2].time == datetime(2024, 5, 31, 22, tzinfo=UTC)


RATED = {
    "user": "customer",
    "item": "film",
    "behavior": "stars",
    "time": "at",
    "behaviors": [{"dislike": "<= 2"}, {"neutral": "< 4"}, {"like": "else"}],
    "repeats": False,
}


def rated(*stars: Any) -> str:
    return lines(["customer,film,stars,at", *(f"7,{n},{star},{MOMENT + n}" for n, star in enumerate(stars))])


@pytest.mark.parametrize(
    "behaviors",
    [RATED["behaviors"], [{"like": ">= 4"}, {"neutral": "> 2"}, {"dislike": "else"}]],
    ids=["rising", "falling"],
)
def test_behavior_from_a_number(tmp_path: Path, behaviors: Any) -> None:
    table = {**RATED, "behaviors": behaviors, "scale": [0.5, 5]}
    found = text(tmp_path, rated(0.5, 2, 2.5, 3.999, 4, "5.0", 5.5, 0, "good", "", 5), table)
    assert [one.behavior for _, one in sorted(found.events.items())] == [
        "dislike", "dislike", "neutral", "neutral", "like", "like", "like",
    ]  # fmt: skip
    assert found.row(3) == Stored("7", "1", "dislike", datetime(2017, 11, 24, 16, 0, 1, tzinfo=UTC), None, 2.0)
    assert list(found.reasons.values()) == ["rating_off_scale", "rating_off_scale", "bad_rating", "bad_rating"]


def test_number_beyond_the_last_comparison(tmp_path: Path) -> None:
    table = {**RATED, "behaviors": [{"dislike": "<= 2"}, {"like": "<= 5"}]}
    found = text(tmp_path, rated(1, 2, 3, 5, 5.01), table)
    assert found.reasons == {("log.csv", 6): "rating_off_scale"}


def test_log_of_one_behavior_has_no_column_for_it(tmp_path: Path) -> None:
    table = {"user": "customer", "item": "sku", "time": "at", "behaviors": ["buy"]}
    found = text(tmp_path, delimited(rows()), table)
    assert {one.behavior for one in found.events.values()} == {"buy"}


NEXT_NIGHT = "customer,sku,action,at\n7,1,pv,1511539200\n8,2,buy,1511539201\n9,3,cart,1511539202\n"
HARMLESS = {
    "column added": "customer,sku,action,at,coupon\n7,1,pv,1511539200,x\n8,2,buy,1511539201,\n9,3,cart,1511539202,y\n",
    "columns moved": "at,action,customer,sku\n1511539200,pv,7,1\n1511539201,buy,8,2\n1511539202,cart,9,3\n",
    "BOM and CRLF": "\ufeff" + NEXT_NIGHT.replace("\n", "\r\n"),
    "no line end at the end": NEXT_NIGHT.removesuffix("\n"),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_drift_that_changes_nothing_that_is_mapped(tmp_path: Path, case: str) -> None:
    before = text(tmp_path / "a", NEXT_NIGHT)
    after = text(tmp_path / "b", HARMLESS[case])
    assert after.events == before.events
    assert after.accounts.quarantined == 0


REFUSED: dict[str, tuple[str, list[str]]] = {
    "column removed": ("customer,sku,at\n7,1,1511539200\n", ["table.behavior", "no column 'action'"]),
    "column renamed": (NEXT_NIGHT.replace("customer", "Customer"), ["table.user", "did you mean 'Customer'?"]),
    "header twice the same": (NEXT_NIGHT.replace("action", "sku"), ["table.item", "column 'sku' is there 2 times"]),
    "mapped column twice": (
        "customer,sku,action,at,at\n7,1,pv,1511539200,3\n",
        ["table.time", "column 'at' is there 2 times"],
    ),
    "header lost": ("7,1,pv,1511539200\n8,2,buy,1511539201\n", ["line 1", "expected a header", "table.columns"]),
    "header below a blank line": ("\n" + NEXT_NIGHT, ["line 1", "is blank"]),
    "names swapped": (
        NEXT_NIGHT.replace("action,at", "at,action"),
        ["line 2", "table.behaviors", "no behavior has the code '1511539200'"],
    ),
    "time retyped": (
        NEXT_NIGHT.replace("15115392", "2017-11-25 01:02:"),
        ["line 2", "table.time", "'2017-11-25 01:02:00'", "a time as seconds", "looks like unit: iso8601"],
    ),
    "time in milliseconds": (NEXT_NIGHT.replace("151153920", "151153920000"), ["table.time", "unit: milliseconds"]),
    "codes changed": (
        NEXT_NIGHT.replace("pv", "View").replace("buy", "Bought").replace("cart", "Cart"),
        ["table.behaviors", "'View'", "codes found: 'View', 'Bought', 'Cart'"],
    ),
    "another separator": (NEXT_NIGHT.replace(",", ";"), ["line 1: ", "looks separated by ';': set table.separator"]),
    "tabs in a CSV": (NEXT_NIGHT.replace(",", "\t"), ["line 1: ", "looks separated by a tab: set table.separator"]),
    "a column in capitals": (
        NEXT_NIGHT.replace("action", "ACTION", 1).replace("at\n", "at,section\n", 1),
        ["table.behavior", "no column 'action'; did you mean 'ACTION'?"],
    ),
    "only a header": ("customer,sku,action,at\n", ["a header and no rows"]),
    "empty": ("", ["the file is empty"]),
    "UTF-16": (NEXT_NIGHT.encode("utf-16"), ["UTF-16"]),
    "open quotes": (NEXT_NIGHT.replace("\n7", '\n"7').replace("\n8", '\n"8'), ["quoted value", "table.quoted"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_drift_that_cannot_be_read_is_refused(tmp_path: Path, case: str) -> None:
    content, words = REFUSED[case]
    message = refusal(tmp_path, content)
    for word in words:
        assert word.lower() in message.lower(), message


JSON_REFUSED: dict[str, tuple[str, list[str]]] = {
    "key renamed": ('{"customer_id":7,"sku":1,"action":"pv","at":1511539200}\n', ["table.user", "'customer_id'"]),
    "key twice": ('{"customer":7,"customer":8,"sku":1,"action":"pv","at":1511539200}\n', ["stands twice"]),
    "an array": ('[{"customer":7}]\n', ["expected one JSON object per line"]),
    "pretty printed": ('{\n "customer": 7,\n "sku": 1\n}\n', ["expected one JSON object per line"]),
}


@pytest.mark.parametrize("case", JSON_REFUSED)
def test_json_that_is_something_else_is_refused(tmp_path: Path, case: str) -> None:
    content, words = JSON_REFUSED[case]
    message = refusal(tmp_path, content, name="log.jsonl")
    for word in words:
        assert word in message


def test_parquet_of_other_types_is_refused(tmp_path: Path) -> None:
    good = {"customer": [1, 2], "sku": ["a", "b"], "action": ["pv", "buy"], "at": [MOMENT, MOMENT]}
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "float ids": ({**good, "customer": [1.0, 2.0]}, "column 'customer' is DOUBLE; an id is"),
        "lists": ({**good, "action": [["pv"], ["buy"]]}, "column 'action' is VARCHAR[]"),
        "gone": ({key: good[key] for key in ("customer", "sku", "at")}, "no column 'action'"),
        "a clock without a date": ({**good, "at": pa.array([1, 2], pa.time32("s"))}, "column 'at' is TIME"),
    }
    for name, (columns, words) in cases.items():
        sink = pa.BufferOutputStream()
        parquet.write_table(pa.table(columns), sink)
        assert words in refusal(tmp_path, sink.getvalue().to_pybytes(), name=f"{name}.parquet")
    assert "not readable as Parquet" in refusal(tmp_path, "customer,sku\n", name="text.parquet")


def test_times_in_a_coarser_unit_than_declared_are_refused(tmp_path: Path) -> None:
    table = {**SHOP, "time": {"column": "at", "unit": "milliseconds"}}
    message = refusal(tmp_path, NEXT_NIGHT, table)
    assert "before 1980" in message
    assert "unit: seconds" in message


def test_name_that_tells_no_format_needs_one(tmp_path: Path) -> None:
    assert "set table.format" in refusal(tmp_path, NEXT_NIGHT, name="log.txt")
    assert text(tmp_path, NEXT_NIGHT, {**SHOP, "format": "csv"}, "log.txt").accounts.events == 3


@pytest.mark.parametrize(
    ("name", "rows", "share"),
    [("taobao_buy_cart_fav", 357_412, 167_862), ("yelp_tip_neutral_neg", 722_659, 285_673)],
)
@pytest.mark.slow
def test_papers_files_go_through_whole(
    real_data: Path, checkout: Path, home: Path, name: str, rows: int, share: int
) -> None:
    raw = real_data / "benchmarks" / f"{name}.tsv.gz"
    s = RetrainSettings.resolve(
        {"raw": raw, "home": home}, yaml_file=checkout / "examples" / f"{name}.yaml", use_environment=False
    )
    landed = land(s)
    assert (landed.accounts.rows, landed.accounts.events, landed.accounts.quarantined) == (rows, rows, 0)
    assert read_manifest(landed.staging).behaviors[s.snapshot.target] == share


def test_added_and_moved_columns_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def night(name: str) -> list[str]:
        caplog.clear()
        raw = write(tmp_path / f"{name}.csv", HARMLESS.get(name, NEXT_NIGHT))
        land_and_publish(settings("table", raw, tmp_path / "home", name="shop", table=SHOP))
        return [record.message for record in caplog.records if "its layout is" in record.message]

    caplog.set_level(logging.INFO)
    assert night("first") == []
    (told,) = night("column added")
    assert "CSV (customer, sku, action, at, coupon), that of first.csv was CSV (customer, sku, action, at)" in told
    assert len(night("columns moved")) == 1
