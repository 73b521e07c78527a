"""Yelp reviews and tips, old and new layouts, with and without the businesses; what is refused or quarantined."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hmar.errors import DataError
from pipeline.sources import delivery, source
from tests.support.one_file import Stored, ingest, ingest_text, refusal
from tests.support.raw_logs import lines, write

PREFIX = "yelp_academic_dataset_"


def name(kind: str, number: int) -> str:
    """A made-up id of 22 characters."""
    return f"{kind}-{number:019d}_"


def review(number: int = 1, **changes: Any) -> str:
    """A review of the layout of 2018; a key whose value is ... is left out."""
    found = {
        "review_id": name("r", number),
        "user_id": name("u", number),
        "business_id": name("b", number % 3),
        "stars": 4.0,
        "useful": 1,
        "funny": 0,
        "cool": 0,
        "text": 'Soup, "noodles"\nand {tea} \u00e9',
        "date": "2016-03-09 18:05:01",
        **changes,
    }
    return json.dumps({key: value for key, value in found.items() if value is not ...})


def old_review(number: int = 1, **changes: Any) -> str:
    """A review of the layout of 2014."""
    gone: dict[str, Any] = {"useful": ..., "funny": ..., "cool": ...}
    votes = {"funny": 0, "useful": 2, "cool": 1}
    return review(number, **{**gone, "stars": 4, "votes": votes, "type": "review", "date": "2014-02-28", **changes})


def tip(number: int = 1, **changes: Any) -> str:
    """A tip of the layout of 2018."""
    found = {
        "user_id": name("u", number),
        "business_id": name("b", number % 3),
        "text": "Go early",
        "date": "2012-05-18 02:17:21",
        "compliment_count": 0,
        **changes,
    }
    return json.dumps({key: value for key, value in found.items() if value is not ...})


def business(number: int, categories: Any, **changes: Any) -> str:
    return json.dumps({"business_id": name("b", number), "name": "A place", "categories": categories, **changes})


MANY = [review(number) for number in range(100, 140)]
"""Good rows: a file in which most rows are bad is refused as a whole."""


@pytest.mark.parametrize(
    ("stars", "behavior"), [(1.0, "dislike"), (2, "dislike"), (3.0, "neutral"), (4, "like"), (5.0, "like")]
)
def test_stars_are_behaviors(tmp_path: Path, stars: float, behavior: str) -> None:
    found = ingest_text("yelp", lines([review(stars=stars)]), tmp_path)
    moment = datetime(2016, 3, 9, 18, 5, 1, tzinfo=UTC)
    assert found.row(1) == (name("u", 1), name("b", 1), behavior, moment, None, stars)


def test_old_layout_has_days(tmp_path: Path) -> None:
    found = ingest_text("yelp", lines([old_review(stars=2)]), tmp_path)
    assert found.row(1)[2:4] == ("dislike", datetime(2014, 2, 28, tzinfo=UTC))


@pytest.mark.parametrize(
    "changes", [{}, {"date": "2012-05-18", "likes": 0, "compliment_count": ..., "type": "tip"}], ids=["new", "old"]
)
def test_tips(tmp_path: Path, changes: dict[str, Any]) -> None:
    found = ingest_text("yelp", lines([tip(**changes)]), tmp_path)
    row = found.row(1)
    assert isinstance(row, Stored)
    assert (row.user, row.item, row.behavior, row.value) == (name("u", 1), name("b", 1), "tip", None)
    assert row.time.date().isoformat() == "2012-05-18"


REASONS = {
    "{": "bad_json",
    "[1, 2]": "bad_json",
    '"user_id"': "bad_json",
    review(1) + " x": "bad_json",
    review(1).replace('"', "'"): "bad_json",
    review(2, user_id=...): "missing_key",
    review(3, business_id=...): "missing_key",
    review(4, date=...): "missing_key",
    review(5, stars=...): "missing_key",
    review(6, user_id=6): "bad_user_id",
    review(7, user_id=None): "bad_user_id",
    review(8, user_id="short"): "bad_user_id",
    review(9, business_id=["b"]): "bad_item_id",
    review(10, business_id=""): "bad_item_id",
    review(11, stars="4.0"): "bad_rating",
    review(12, stars=None): "bad_rating",
    review(13, stars=True): "bad_rating",
    review(14, stars=0): "rating_off_scale",
    review(15, stars=5.5): "rating_off_scale",
    review(16, stars=-4.0): "rating_off_scale",
    review(17, date=1457546701): "bad_timestamp",
    review(18, date="09.03.2016"): "bad_timestamp",
    review(19, date="2015-02-29"): "bad_timestamp",
    review(20, date="2016-03-09 24:00:00"): "bad_timestamp",
    review(21, date="2016-03-09T18:05:01"): "bad_timestamp",
    review(22, date="1899-12-31"): "timestamp_out_of_range",
    review(23, date="2100-01-01"): "timestamp_out_of_range",
    review(24, date="2004-06-30 23:59:59"): "outside_window",
}


def test_every_reason(tmp_path: Path) -> None:
    found = ingest_text("yelp", lines([*REASONS, *MANY]), tmp_path)
    assert {row: found.row(n) for n, row in enumerate(REASONS, 1)} == REASONS
    assert found.accounts.events == len(MANY)


def test_a_tip_needs_no_stars_and_a_review_among_tips_is_one(tmp_path: Path) -> None:
    rows = [tip(1), tip(2), tip(3), review(4), tip(5, date=...), tip(6, user_id=6)]
    found = ingest_text("yelp", lines(rows), tmp_path)
    assert found.row(4)[2] == "tip"
    assert (found.row(5), found.row(6)) == ("missing_key", "bad_user_id")


def test_bytes_around_the_rows(tmp_path: Path) -> None:
    text = lines([*MANY, "", review(1).replace("Soup", "So\udcffp")]).replace("\n", "\r\n")
    raw = b"\xef\xbb\xbf" + text.encode(errors="surrogateescape") + review(2)[:-1].encode()
    found = ingest_text("yelp", raw, tmp_path)
    assert (found.accounts.events, found.accounts.blank_lines) == (len(MANY), 1)
    assert list(found.reasons.values()) == ["invalid_utf8", "cut_line"]


def test_a_whole_last_line_without_its_end(tmp_path: Path) -> None:
    assert ingest_text("yelp", "\n".join(MANY), tmp_path).accounts.events == len(MANY)


BUSINESSES = [
    business(0, "Soup, Noodles"),
    business(1, ["Books, Mags, Music & Video", "Shopping"]),
    business(2, None),
    business(3, ""),
    business(4, []),
    business(5, "Tea, Soup"),
    business(5, "Noodles, Soup"),
    "no json",
]


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_categories_of_the_businesses_beside(tmp_path: Path, compressed: bool) -> None:
    text = lines(BUSINESSES).encode() + b'{"business_id": "\xff"}\n'
    path = tmp_path / "raw" / f"{PREFIX}business.json{'.gz' if compressed else ''}"
    write(path, gzip.compress(text) if compressed else text)
    rows = [review(n, business_id=name("b", n)) for n in range(7)]
    found = ingest_text("yelp", lines(rows), tmp_path, f"{PREFIX}review.json")
    categories = [one.category for _, one in sorted(found.events.items())]
    assert categories == ["Soup", "Books, Mags, Music & Video", None, None, None, "Noodles", None]


def test_a_bad_row_keeps_its_reason_beside_businesses(tmp_path: Path) -> None:
    write(tmp_path / "raw" / "business.json", lines(BUSINESSES))
    found = ingest_text("yelp", lines([*MANY, "{"]), tmp_path, "review.json")
    assert found.row(len(MANY) + 1) == "bad_json"
    assert {one.category for one in found.events.values()} == {"Soup", "Books, Mags, Music & Video", None}


def test_other_businesses_are_another_delivery(tmp_path: Path) -> None:
    write(tmp_path / "raw" / "business.json", lines(BUSINESSES))
    first = ingest_text("yelp", lines(MANY), tmp_path, "review.json")
    write(tmp_path / "raw" / "business.json", lines([business(n, "Tea") for n in range(3)]))
    second = ingest_text("yelp", lines(MANY), tmp_path, "review.json")
    assert {one.category for one in first.events.values()} != {one.category for one in second.events.values()}
    assert {one.category for one in second.events.values()} == {"Tea"}


def test_a_business_file_of_another_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "business.json", '{"id": 1, "title": "A place"}\n')
    path = write(tmp_path / "review.json", lines(MANY))
    with pytest.raises(DataError, match=r"business\.json, line 1: the keys are id, title \(missing business_id, categ"):
        delivery(source("yelp"), path)


@pytest.mark.parametrize("prefix", [PREFIX, ""])
def test_directory(tmp_path: Path, prefix: str) -> None:
    write(tmp_path / f"{prefix}review.json", lines([review()]))
    write(tmp_path / f"{prefix}tip.json", lines([tip()]))
    write(tmp_path / f"{prefix}business.json", lines([business(1, "Tea")]))
    write(tmp_path / f"{prefix}user.json", "{}\n")
    files = delivery(source("yelp"), tmp_path)
    assert [file.name for file in files] == [f"{prefix}review.json", f"{prefix}tip.json"]
    assert [file.layout.name for file in files] == ["Yelp reviews", "Yelp tips"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        pytest.param([review(user_id=...)] * 3, ["missing user_id", "expected those of Yelp reviews"], id="removed"),
        pytest.param([review(sentiment=1)] * 3, ["unknown sentiment"], id="added"),
        pytest.param([review(date=..., created="2016-03-09")] * 3, ["missing date", "unknown created"], id="renamed"),
        pytest.param([review(stars="4")] * 3, ["key stars: found '\"4\"'", "a number from 1 to 5"], id="stars retyped"),
        pytest.param(
            [review(date=1457546701)] * 3, ["key date: found '1457546701'", "a day or a second"], id="time retyped"
        ),
        pytest.param([review(user_id=6)] * 3, ["key user_id: found '6'", "22 characters"], id="id retyped"),
        pytest.param([business(1, "Tea")] * 3, ["missing user_id", "date"], id="the business file"),
        pytest.param([review().replace('"', "'")] * 3, ["a Python dictionary, not JSON"], id="Python"),
        pytest.param(["[", review() + ","] * 3, ["expected one JSON object per line"], id="a JSON array"),
        pytest.param(["1\t10\t3\t881250949"] * 3, ["set dataset to movielens"], id="u.data"),
    ],
)
def test_what_is_not_yelp_is_refused(tmp_path: Path, rows: list[str], words: list[str]) -> None:
    message = refusal("yelp", lines(rows), tmp_path)
    for word in words:
        assert word in message


def test_other_sources_name_it(tmp_path: Path) -> None:
    assert "set dataset to yelp" in refusal("amazon", lines(MANY), tmp_path)


def test_real_reviews(real_data: Path, tmp_path: Path) -> None:
    found = ingest("yelp", real_data / "yelp", tmp_path)
    assert (found.accounts.rows, found.accounts.events) == (999, 999)
    counts = [sum(one.behavior == name for one in found.events.values()) for name in source("yelp").BEHAVIORS]
    assert counts == [0, 186, 125, 688]


def test_real_tips(real_data: Path, tmp_path: Path) -> None:
    found = ingest("yelp", real_data / "yelp" / "tips", tmp_path)
    assert (found.accounts.rows, found.accounts.events, found.accounts.duplicates) == (5_372, 5_269, 103)
    assert sum(one.category is not None for one in found.events.values()) > 5_000
