"""Tianchi mobile: hours in Beijing, behavior codes, and what is refused or quarantined."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.sources import delivery, source
from tests.support.one_file import ingest, ingest_text, refusal
from tests.support.raw_logs import lines, write

HEADER = "user_id,item_id,behavior_type,user_geohash,item_category,time"
GOOD = "7,50,1,,8,2014-12-06 02"
MANY = [f"{user},50,1,,8,2014-12-06 02" for user in range(100, 140)]
"""Good rows: a file in which most rows are bad is refused as a whole."""


def log(*rows: str) -> str:
    return lines([HEADER, *rows])


def test_codes_hours_and_categories(tmp_path: Path) -> None:
    rows = [GOOD, "7,50,2,abc1234,8,2014-12-06 23", "7,51,3,,9,2014-12-07 07", "7,50,4,,8,2014-12-07 08"]
    found = ingest_text("tianchi", log(*rows), tmp_path)
    assert [found.row(number) for number in (2, 3, 4, 5)] == [
        (7, 50, "click", datetime(2014, 12, 5, 18, tzinfo=UTC), 8, None),
        (7, 50, "fav", datetime(2014, 12, 6, 15, tzinfo=UTC), 8, None),
        (7, 51, "cart", datetime(2014, 12, 6, 23, tzinfo=UTC), 9, None),
        (7, 50, "buy", datetime(2014, 12, 7, 0, tzinfo=UTC), 8, None),
    ]


REASONS = {
    "7,50,0,,8,2014-12-06 02": "unknown_behavior",
    "7,50,5,,8,2014-12-06 02": "unknown_behavior",
    "7,50,,,8,2014-12-06 02": "unknown_behavior",
    "7,50,1,,8,2014-12-06 24": "bad_timestamp",
    "7,50,1,,8,2014-12-06 2": "bad_timestamp",
    "7,50,1,,8,2014-12-06": "bad_timestamp",
    "7,50,1,,8,2014-11-31 02": "bad_timestamp",
    "7,50,1,,8,2014-12-06 02:30:00": "bad_timestamp",
    "7,50,1,,8,1417802400": "bad_timestamp",
    "7,50,1,,8,2014/12/06 02": "bad_timestamp",
    "7,50,1,,8,1969-12-06 02": "timestamp_out_of_range",
    "7,50,1,,8,1970-01-01 07": "timestamp_out_of_range",
    "7,50,1,,8,2100-01-01 00": "timestamp_out_of_range",
    "7,50,1,,8,2014-11-17 23": "outside_window",
    "7,50,1,,8,2014-12-19 00": "outside_window",
    "7,50,1,,x,2014-12-06 02": "bad_category_id",
    "x,50,1,,8,2014-12-06 02": "bad_user_id",
    "7,5 0,1,,8,2014-12-06 02": "bad_item_id",
    "7,-50,1,,8,2014-12-06 02": "negative_id",
    "9223372036854775808,50,1,,8,2014-12-06 02": "id_overflow",
    "7,50,1,8,2014-12-06 02": "missing_columns",
    "7,50,1,,,8,2014-12-06 02": "extra_columns",
}


def test_every_reason(tmp_path: Path) -> None:
    found = ingest_text("tianchi", log(*REASONS, *MANY), tmp_path)
    assert {row: found.row(n) for n, row in enumerate(REASONS, 2)} == REASONS
    assert found.accounts.events == len(MANY)


def test_equal_rows_are_events_of_their_own(tmp_path: Path) -> None:
    assert ingest_text("tianchi", log(GOOD, GOOD), tmp_path).accounts.events == 2


@pytest.mark.parametrize("cut", [1, 2, 3, 5])
def test_a_cut_last_line(tmp_path: Path, cut: int) -> None:
    assert ingest_text("tianchi", log(GOOD) + GOOD[:-cut], tmp_path).row(3) == "cut_line"


def test_a_whole_last_line_without_its_end(tmp_path: Path) -> None:
    found = ingest_text("tianchi", (log(GOOD) + GOOD).replace("\n", "\r\n").encode("utf-8-sig"), tmp_path)
    assert (found.accounts.events, found.accounts.quarantined) == (2, 0)


def test_directory_gives_the_largest_log(tmp_path: Path) -> None:
    for name in ("tianchi_fresh_comp_train_user.csv", "tianchi_fresh_comp_train_user_2w.csv"):
        write(tmp_path / name, log(GOOD))
    write(tmp_path / "tianchi_fresh_comp_train_item.csv", "item_id,item_geohash,item_category\n50,,8\n")
    assert [file.name for file in delivery(source("tianchi"), tmp_path)] == ["tianchi_fresh_comp_train_user.csv"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(
            lines([HEADER.replace("user_geohash,", ""), "7,50,1,8,2014-12-06 02"]),
            ["missing user_geohash"],
            id="column removed",
        ),
        pytest.param(lines([HEADER + ",price", GOOD + ",1"]), ["unknown price"], id="column added"),
        pytest.param(
            lines([HEADER.replace("time", "hour"), GOOD]), ["unknown hour", "missing time"], id="column renamed"
        ),
        pytest.param(
            lines([HEADER.replace("user_id,item_id", "item_id,user_id"), GOOD]), ["would be swapped"], id="swapped"
        ),
        pytest.param(
            log("7,50,1,,8,1417802400"),
            ["column 6 (time) is '1417802400'", "a day and an hour, YYYY-MM-DD HH"],
            id="time retyped",
        ),
        pytest.param(log("7,50,pv,,8,2014-12-06 02"), ["column 3 (behavior_type)", "1 click"], id="codes retyped"),
        pytest.param("item_id,item_geohash,item_category\n50,,8\n", ["missing user_id"], id="the item file"),
    ],
)
def test_what_is_not_tianchi_is_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    message = refusal("tianchi", text, tmp_path)
    for word in words:
        assert word in message


def test_other_sources_name_it(tmp_path: Path) -> None:
    assert "set dataset to tianchi" in refusal("tmall", log(GOOD), tmp_path)


def test_real_sample(real_data: Path, tmp_path: Path) -> None:
    found = ingest("tianchi", real_data / "tianchi_mobile", tmp_path)
    assert (found.accounts.rows, found.accounts.events, found.accounts.duplicates) == (1_999, 1_999, 0)
    counts = {name: sum(one.behavior == name for one in found.events.values()) for name in source("tianchi").BEHAVIORS}
    assert counts == {"click": 1_876, "fav": 18, "cart": 70, "buy": 35}
