"""Amazon reviews and ratings of 2014 and 2018; users and items told apart by shape; what is refused or quarantined."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.sources import delivery, source
from tests.support.one_file import ingest, ingest_text, refusal
from tests.support.raw_logs import lines, write

TIME = 1_393_545_600
DAY = datetime(2014, 2, 28, tzinfo=UTC)


def user(number: int) -> str:
    return f"A{number:012d}Z"


def item(number: int) -> str:
    return f"B{number:08d}X"


def review(number: int = 1, **changes: Any) -> str:
    """A review of the layout of 2014; a key whose value is ... is left out."""
    found = {
        "reviewerID": user(number),
        "asin": item(number % 3),
        "reviewerName": 'J. "Jo" Doe',
        "helpful": [0, 1],
        "reviewText": "Strings, and {more}",
        "overall": 5.0,
        "summary": "good",
        "unixReviewTime": TIME,
        "reviewTime": "02 28, 2014",
        **changes,
    }
    return json.dumps({key: value for key, value in found.items() if value is not ...})


def new_review(number: int = 1, **changes: Any) -> str:
    """A review of the layout of 2018."""
    more = {"helpful": ..., "verified": True, "vote": "3", "style": {"Size:": " L"}, "image": ["https://x"]}
    return review(number, **{**more, **changes})


MANY = [review(number) for number in range(100, 140)]
"""Good rows: a file in which most rows are bad is refused as a whole."""
BY_USER = [f"{user(n)},{item(n % 3)},5.0,{TIME}" for n in range(100, 140)]
BY_ITEM = [f"{item(n % 3)},{user(n)},5.0,{TIME}" for n in range(100, 140)]


@pytest.mark.parametrize("made", [review, new_review])
@pytest.mark.parametrize(
    ("stars", "behavior"), [(1.0, "negative"), (3.0, "negative"), (4, "positive"), (5.0, "positive")]
)
def test_reviews(tmp_path: Path, made: Any, stars: float, behavior: str) -> None:
    found = ingest_text("amazon", lines([made(overall=stars)]), tmp_path)
    assert found.row(1) == (user(1), item(1), behavior, DAY, None, stars)


@pytest.mark.parametrize(
    "row", [f"{user(1)},{item(1)},3.0,{TIME}", f"{item(1)},{user(1)},3.0,{TIME}"], ids=["2014", "2018"]
)
def test_ratings_have_users_and_items_where_their_ids_say(tmp_path: Path, row: str) -> None:
    found = ingest_text("amazon", lines([row]), tmp_path)
    assert found.row(1) == (user(1), item(1), "negative", DAY, None, 3.0)


def test_isbn_and_the_other_form_of_user_ids(tmp_path: Path) -> None:
    rows = [f"#oc-R{user(1)},000000000X,5.0,{TIME}", f"{user(1)},0123456789,5,{TIME}"]
    found = ingest_text("amazon", lines(rows), tmp_path)
    assert [found.row(n)[:2] for n in (1, 2)] == [(f"#oc-R{user(1)}", "000000000X"), (user(1), "0123456789")]


REASONS = {
    "{": "bad_json",
    "[]": "bad_json",
    review(1)[:-1]: "bad_json",
    review(1).replace('"', "'"): "bad_json",
    review(2, reviewerID=...): "missing_key",
    review(3, asin=...): "missing_key",
    review(4, overall=...): "missing_key",
    review(5, unixReviewTime=...): "missing_key",
    review(6, reviewerID=None): "bad_user_id",
    review(7, reviewerID=7): "bad_user_id",
    review(8, reviewerID=item(1), asin=user(8)): "bad_user_id",
    review(9, asin=1234567890): "bad_item_id",
    review(10, asin=user(1)): "bad_item_id",
    review(11, overall="5.0"): "bad_rating",
    review(12, overall=0.0): "rating_off_scale",
    review(13, overall=4.5): "rating_off_scale",
    review(14, unixReviewTime=str(TIME)): "bad_timestamp",
    review(15, unixReviewTime=-1): "bad_timestamp",
    review(16, unixReviewTime=1.5e9): "bad_timestamp",
    review(17, unixReviewTime=TIME * 1000): "timestamp_in_milliseconds",
    review(18, unixReviewTime=4_102_444_800): "timestamp_out_of_range",
    review(19, unixReviewTime=86_400): "outside_window",
}


def test_every_reason_of_reviews(tmp_path: Path) -> None:
    found = ingest_text("amazon", lines([*REASONS, *MANY]), tmp_path)
    assert {row: found.row(n) for n, row in enumerate(REASONS, 1)} == REASONS
    assert found.accounts.events == len(MANY)


RATINGS_REASONS = {
    f"{item(1)},{user(1)},5.0,{TIME}": "bad_user_id",
    f",{item(1)},5.0,{TIME}": "bad_user_id",
    f"{user(1)},{user(2)},5.0,{TIME}": "bad_item_id",
    f"{user(1)},b000000001,5.0,{TIME}": "bad_item_id",
    f"{user(1)},{item(1)},good,{TIME}": "bad_rating",
    f"{user(1)},{item(1)},6,{TIME}": "rating_off_scale",
    f"{user(1)},{item(1)},5.0,{TIME}000": "timestamp_in_milliseconds",
    f"{user(1)},{item(1)},5.0,2014-02-28": "bad_timestamp",
    f"{user(1)},{item(1)},5.0,9999999999": "timestamp_out_of_range",
    f"{user(1)},{item(1)},5.0,5": "outside_window",
    f"{user(1)},{item(1)},{TIME}": "missing_columns",
    f"{user(1)},{item(1)},5.0,{TIME},1": "extra_columns",
}


def test_every_reason_of_ratings(tmp_path: Path) -> None:
    found = ingest_text("amazon", lines([*BY_USER, *RATINGS_REASONS]), tmp_path)
    assert {row: found.row(n) for n, row in enumerate(RATINGS_REASONS, len(BY_USER) + 1)} == RATINGS_REASONS


def test_a_row_of_the_other_year_among_those_of_2018(tmp_path: Path) -> None:
    assert ingest_text("amazon", lines([*BY_ITEM, BY_USER[0]]), tmp_path).row(len(BY_ITEM) + 1) == "bad_user_id"


def test_bytes_around_the_rows(tmp_path: Path) -> None:
    text = lines([*MANY, "", review(1).replace("Strings", "Str\udcff")]).replace("\n", "\r\n")
    raw = b"\xef\xbb\xbf" + text.encode(errors="surrogateescape") + review(2)[:-3].encode()
    found = ingest_text("amazon", raw, tmp_path)
    assert (found.accounts.events, found.accounts.blank_lines) == (len(MANY), 1)
    assert list(found.reasons.values()) == ["invalid_utf8", "cut_line"]


def test_directory_gives_what_is_of_this_format(tmp_path: Path) -> None:
    write(tmp_path / "Musical_Instruments.json", lines(MANY))
    write(tmp_path / "ratings_Books.csv", lines(BY_USER))
    write(tmp_path / "meta_Books.json", '{"asin": "B00000000X", "title": "A book"}\n')
    write(tmp_path / "notes.csv", "a,b\n1,2\n")
    names = [file.name for file in delivery(source("amazon"), tmp_path)]
    assert names == ["Musical_Instruments.json", "ratings_Books.csv"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        pytest.param([review(asin=...)] * 3, ["missing asin", "expected those of Amazon reviews"], id="removed"),
        pytest.param([review(price=3)] * 3, ["unknown price"], id="added"),
        pytest.param([review(overall=..., rating=5.0)] * 3, ["missing overall", "unknown rating"], id="renamed"),
        pytest.param([review(reviewerID=item(1), asin=user(1))] * 3, ["key reviewerID: found"], id="swapped"),
        pytest.param([review(overall="5")] * 3, ["key overall: found '\"5\"'", "a number from 1 to 5"], id="retyped"),
        pytest.param(
            [review(unixReviewTime=TIME * 1000)] * 3, ["key unixReviewTime", "whole seconds since 1970"], id="ms"
        ),
        pytest.param(
            [str(json.loads(review()))] * 3,
            ["line 1", "a Python dictionary, not JSON", "json.dumps(ast.literal_eval(line))"],
            id="Python dictionaries",
        ),
        pytest.param(["1,2,5.0,881250949"] * 3, ["told apart by their ids", "read it as a table"], id="integer ids"),
        pytest.param(
            ["user,item,rating,timestamp", *BY_USER], ["line 1", "reads like a header", "remove the line"], id="header"
        ),
        pytest.param(
            [row.replace(f",{TIME}", ",02 28 2014") for row in BY_USER], ["column 4 (timestamp)"], id="time retyped"
        ),
        pytest.param([f"{item(1)},{user(1)},{TIME},5.0"] * 3, ["column 3 (rating)"], id="rating swapped"),
        pytest.param([f"{item(1)},{user(1)},5.0"] * 3, ["told apart by their ids"], id="a column too few"),
    ],
)
def test_what_is_not_amazon_is_refused(tmp_path: Path, rows: list[str], words: list[str]) -> None:
    message = refusal("amazon", lines(rows), tmp_path)
    for word in words:
        assert word in message


@pytest.mark.parametrize("rows", [MANY, BY_USER, BY_ITEM], ids=["reviews", "2014", "2018"])
def test_other_sources_name_it(tmp_path: Path, rows: list[str]) -> None:
    assert "set dataset to amazon" in refusal("yelp", lines(rows), tmp_path)


def test_real_sample(real_data: Path, tmp_path: Path) -> None:
    found = ingest("amazon", real_data / "amazon", tmp_path)
    assert (found.accounts.rows, found.accounts.events) == (10_261, 10_261)
    assert sum(one.behavior == "positive" for one in found.events.values()) == 9_022
    assert len({one.user for one in found.events.values()}) == 1_429
    assert len({one.item for one in found.events.values()}) == 900
