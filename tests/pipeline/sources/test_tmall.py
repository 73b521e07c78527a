"""Tmall's two layouts: days of 2014 in Beijing, action codes, and what is refused or quarantined."""

import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hmar.errors import DataError
from pipeline.sources import delivery, source
from tests.support.one_file import ingest, ingest_text, refusal
from tests.support.raw_logs import lines, write

HEADER = "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type"
REDUCED = ",user_id,item_id,time_stamp,action_type"
GOOD = "7,50,8,900,2661,1111,2"
MANY = [f"{user},50,8,900,2661,1111,2" for user in range(100, 140)]
"""Good rows: a file in which most rows are bad is refused as a whole."""


def log(*rows: str) -> str:
    return lines([HEADER, *rows])


def test_actions_days_and_categories(tmp_path: Path) -> None:
    rows = ["7,50,8,900,2661,0829,0", "7,50,8,900,2661,0829,3", "7,51,8,900,,829,1", "8,50,8,900,2661,1111,2"]
    found = ingest_text("tmall", log(*rows), tmp_path)
    midnight = datetime(2014, 8, 28, 16, tzinfo=UTC)
    assert [found.row(number) for number in (2, 3, 4, 5)] == [
        (7, 50, "click", midnight, 8, None),
        (7, 50, "fav", midnight, 8, None),
        (7, 51, "cart", midnight, 8, None),
        (8, 50, "buy", datetime(2014, 11, 10, 16, tzinfo=UTC), 8, None),
    ]


def test_reduced_layout(tmp_path: Path) -> None:
    found = ingest_text("tmall", lines([REDUCED, "41,9,5077,626,0", "42,9,5077,1111,2"]), tmp_path)
    assert found.row(2) == (9, 5077, "click", datetime(2014, 6, 25, 16, tzinfo=UTC), None, None)
    assert found.row(3)[2] == "buy"


REASONS = {
    "7,50,8,900,2661,0229,2": "bad_timestamp",
    "7,50,8,900,2661,1131,2": "bad_timestamp",
    "7,50,8,900,2661,1301,2": "bad_timestamp",
    "7,50,8,900,2661,0800,2": "bad_timestamp",
    "7,50,8,900,2661,11,2": "bad_timestamp",
    "7,50,8,900,2661,11111,2": "bad_timestamp",
    "7,50,8,900,2661,,2": "bad_timestamp",
    "7,50,8,900,2661,1409529600,2": "bad_timestamp",
    "7,50,8,900,2661,1111,4": "unknown_behavior",
    "7,50,8,900,2661,1111,buy": "unknown_behavior",
    "7,50,8,900,2661,1111,": "missing_columns",
    "7,50,8,900,2661,1111": "missing_columns",
    "7,50,8,900,2661,1111,2,1": "extra_columns",
    "u7,50,8,900,2661,1111,2": "bad_user_id",
    "7,,8,900,2661,1111,2": "bad_item_id",
    "7,50,8.0,900,2661,1111,2": "bad_category_id",
    "-7,50,8,900,2661,1111,2": "negative_id",
    "7,99999999999999999999,8,900,2661,1111,2": "id_overflow",
    "7,50,8,900,2661,0510,2": "outside_window",
    "7,50,8,900,2661,1113,2": "outside_window",
}


def test_every_reason(tmp_path: Path) -> None:
    found = ingest_text("tmall", log(*REASONS, *MANY), tmp_path)
    assert {row: found.row(n) for n, row in enumerate(REASONS, 2)} == REASONS
    assert found.accounts.events == len(MANY)


REDUCED_REASONS = {
    "9,7,50,229,2": "bad_timestamp",
    "9,7,50,1111,4": "unknown_behavior",
    "9,7,50,1111,": "missing_columns",
    "9,7,50,1111": "missing_columns",
    "9,7,50,1111,2,1": "extra_columns",
    "9,x,50,1111,2": "bad_user_id",
    "9,7,x,1111,2": "bad_item_id",
    "9,7,50,510,2": "outside_window",
}


def test_every_reason_of_the_reduced_layout(tmp_path: Path) -> None:
    good = [f"9,{user},50,1111,2" for user in range(100, 120)]
    found = ingest_text("tmall", lines([REDUCED, *REDUCED_REASONS, *good]), tmp_path)
    assert {row: found.row(n) for n, row in enumerate(REDUCED_REASONS, 2)} == REDUCED_REASONS
    assert found.accounts.events == len(good)


def test_equal_rows_are_events_of_their_own(tmp_path: Path) -> None:
    found = ingest_text("tmall", log(GOOD, GOOD, GOOD), tmp_path)
    assert (found.accounts.events, found.accounts.duplicates) == (3, 0)


def test_bytes_around_the_rows(tmp_path: Path) -> None:
    text = log(*MANY, "", "8\udcff,50,8,900,2661,1111,2").replace("\n", "\r\n")
    found = ingest_text("tmall", b"\xef\xbb\xbf" + text.encode(errors="surrogateescape") + GOOD[:-2].encode(), tmp_path)
    assert (found.accounts.events, found.accounts.blank_lines) == (len(MANY), 1)
    assert list(found.reasons.values()) == ["invalid_utf8", "cut_line"]


def test_a_last_line_cut_before_its_action(tmp_path: Path) -> None:
    assert ingest_text("tmall", log(GOOD) + GOOD[:-1], tmp_path).row(3) == "cut_line"


def test_directory(tmp_path: Path) -> None:
    write(tmp_path / "user_log_format1.csv", log(GOOD))
    write(tmp_path / "user_info_format1.csv", "user_id,age_range,gender\n7,3,0\n")
    assert [file.name for file in delivery(source("tmall"), tmp_path)] == ["user_log_format1.csv"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(
            lines([HEADER.replace("brand_id,", ""), "7,50,8,900,1111,2"]), ["missing brand_id"], id="column removed"
        ),
        pytest.param(lines([HEADER + ",price", GOOD + ",9"]), ["unknown price", "expected user_id"], id="column added"),
        pytest.param(
            lines([HEADER.replace("time_stamp", "date"), GOOD]),
            ["unknown date", "missing time_stamp", "rename the columns"],
            id="column renamed",
        ),
        pytest.param(
            lines([HEADER.replace("user_id,item_id", "item_id,user_id"), GOOD]),
            ["in the order item_id,user_id", "would be swapped"],
            id="columns swapped",
        ),
        pytest.param(
            log(*[GOOD.replace("1111", "2014-11-11")] * 3),
            ["line 2", "column 6 (time_stamp) is '2014-11-11'", "expected month and day, mmdd"],
            id="time retyped",
        ),
        pytest.param(
            log(*[GOOD.replace(",1111,2", ",1111,buy")] * 3),
            ["column 7 (action_type)", "0 click, 1 cart"],
            id="action retyped",
        ),
        pytest.param(GOOD + "\n", ["expected the header user_id,item_id"], id="header missing"),
        pytest.param(
            lines([REDUCED.replace(",time_stamp", ""), "9,7,50,2"]), ["missing time_stamp"], id="reduced, removed"
        ),
        pytest.param("user_id,age_range,gender\n7,3,0\n", ["unknown age_range"], id="another file of the archive"),
        pytest.param("1,2,3,pv,1511544070\n", ["set dataset to taobao"], id="taobao"),
    ],
)
def test_what_is_not_tmall_is_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    message = refusal("tmall", text, tmp_path)
    for word in words:
        assert word in message


def test_the_archive_as_it_is_published_is_to_be_unzipped(tmp_path: Path) -> None:
    path = tmp_path / "data_format1.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data_format1/user_log_format1.csv", log(GOOD))
    with pytest.raises(DataError, match="zip archive; unzip it"):
        delivery(source("tmall"), path)


def test_other_sources_name_it(tmp_path: Path) -> None:
    assert "set dataset to tmall" in refusal("taobao", log(GOOD), tmp_path)


def test_real_sample(real_data: Path, tmp_path: Path) -> None:
    found = ingest("tmall", real_data / "tmall", tmp_path)
    assert (found.accounts.rows, found.accounts.events, found.accounts.duplicates) == (13_260, 13_260, 0)
    counts = {name: sum(one.behavior == name for one in found.events.values()) for name in source("tmall").BEHAVIORS}
    assert counts == {"click": 11_891, "cart": 37, "buy": 839, "fav": 493}
    beijing = {(one.time + timedelta(hours=8)).strftime("%m%d%H") for one in found.events.values()}
    assert (min(beijing), max(beijing)) == ("051100", "111100")
