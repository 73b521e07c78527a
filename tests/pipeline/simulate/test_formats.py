"""Each format to the byte: columns, codes, times and quirks of the published files."""

import re
from collections import Counter
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.simulate import simulate
from tests.pipeline.simulate.logs import lines, objects, rows, truth

TAOBAO_ROW = re.compile(r"\d+,\d+,\d+,(pv|fav|cart|buy),15\d{8}")
ID_22 = re.compile(r"[\w-]{22}")


def test_taobao_rows_are_what_the_source_publishes(tmp_path: Path) -> None:
    out = simulate("taobao", tmp_path / "log", users=120, items=80, seed=1)
    text = (out / "UserBehavior.csv").read_text(encoding="ascii")
    found = text.splitlines()
    assert text.endswith("\n")
    assert all(TAOBAO_ROW.fullmatch(line) for line in found)
    assert len(found) == len(set(found)) == truth(out)["accounts"]["events"]
    seconds = [int(line.rsplit(",", 1)[1]) for line in found]
    assert min(seconds) >= 1_511_539_200
    assert max(seconds) < 1_511_539_200 + 9 * 86_400
    category = {line.split(",")[1]: line.split(",")[2] for line in found}
    assert all(category[line.split(",")[1]] == line.split(",")[2] for line in found)
    assert Counter(line.split(",")[3] for line in found) == truth(out)["behaviors"]
    # Users stand in one piece, as in the published file.
    users = [line.split(",")[0] for line in found]
    assert 1 + sum(a != b for a, b in pairwise(users)) == len(set(users)) == 120


@pytest.mark.parametrize(
    ("layout", "name", "separator", "header"),
    [
        ("100k", "u.data", "\t", None),
        ("1m", "ratings.dat", "::", None),
        ("latest", "ratings.csv", ",", "userId,movieId,rating,timestamp"),
    ],
)
def test_movielens_layouts(tmp_path: Path, layout: str, name: str, separator: str, header: str | None) -> None:
    out = simulate("movielens", tmp_path / "log", users=100, items=90, seed=3, layout=layout)
    found = lines(out / name)
    if header:
        assert found.pop(0) == header
    split = [line.split(separator) for line in found]
    assert {len(row) for row in split} == {4}
    allowed = {f"{n / 2:.1f}" for n in range(1, 11)} if layout == "latest" else set("12345")
    assert {row[2] for row in split} == allowed
    pairs = [(row[0], row[1]) for row in split]
    assert len(pairs) == len(set(pairs)), "a film is rated once per user"
    behaviors = Counter("dislike" if float(r[2]) <= 2 else "neutral" if float(r[2]) < 4 else "like" for r in split)
    told = truth(out)["behaviors"]
    assert {k: v for k, v in told.items() if k != "tag"} == behaviors
    ties = Counter((row[0], row[3]) for row in split)
    assert max(ties.values()) > 1, "several ratings within one second are part of the real data"


def test_tags_are_quoted_as_csv_wants(tmp_path: Path) -> None:
    out = simulate("movielens", tmp_path / "log", users=300, items=150, seed=4, layout="latest")
    found = list(rows(out / "tags.csv", header=True))
    assert len(found) == truth(out)["behaviors"]["tag"] > 100
    assert {'based on a "true" story', "sci-fi, but not only", "überlang"} <= {row[2] for row in found}
    assert len({(row[0], row[1], row[3]) for row in found}) == len(found)


def test_titles_stand_beside_the_ratings(tmp_path: Path) -> None:
    out = simulate("movielens", tmp_path / "log", users=30, items=150, seed=4)
    found = [line.split("|") for line in (out / "u.item").read_text(encoding="latin-1").splitlines()]
    assert [int(row[0]) for row in found] == list(range(1, 151))
    assert {len(row) for row in found} == {24}
    assert len({row[1] for row in found}) == 150
    assert any("É" in row[1] for row in found)


def test_tmall_has_days_only_and_no_order_within_a_user(tmp_path: Path) -> None:
    out = simulate("tmall", tmp_path / "log", users=150, items=300, seed=1)
    found = lines(out / "user_log_format1.csv")
    assert found.pop(0) == "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type"
    row = re.compile(r"\d+,\d+,\d+,\d+,\d*,([5-9]\d\d|1[01]\d\d),[0-3]")
    assert all(row.fullmatch(line) for line in found)
    split = [line.split(",") for line in found]
    days = [date(2014, int(r[5][:-2]), int(r[5][-2:])) for r in split]
    assert date(2014, 5, 11) <= min(days) < max(days) <= date(2014, 11, 12)
    assert any(not r[4] for r in split), "some brands are unknown"
    assert len({(r[1], r[2], r[3], r[4]) for r in split}) == len({r[1] for r in split}), "an item has one of each"
    names = {"0": "click", "1": "cart", "2": "buy", "3": "fav"}
    assert Counter(names[r[6]] for r in split) == truth(out)["behaviors"]
    assert len(found) > len(set(found)), "two clicks on an item on one day are two rows"
    own = [(r[0], r[5]) for r in split]
    assert 0.4 < np.mean([a[1] > b[1] for a, b in pairwise(own) if a[0] == b[0] and a[1] != b[1]]) < 0.6


def test_reduced_tmall_has_an_index_and_the_same_events(tmp_path: Path) -> None:
    full = simulate("tmall", tmp_path / "full", users=60, items=50, seed=1)
    reduced = simulate("tmall", tmp_path / "reduced", users=60, items=50, seed=1, layout="reduced")
    found = list(rows(reduced / "data_sample.csv", header=True))
    assert lines(reduced / "data_sample.csv")[0] == ",user_id,item_id,time_stamp,action_type"
    index = [int(row[0]) for row in found]
    assert all(a < b for a, b in pairwise(index))
    whole = Counter((r[0], r[1], r[5], r[6]) for r in rows(full / "user_log_format1.csv", header=True))
    assert Counter(tuple(row[1:]) for row in found) == whole


def test_tianchi_has_hours_and_few_places(tmp_path: Path) -> None:
    out = simulate("tianchi", tmp_path / "log", users=150, items=100, seed=1)
    found = lines(out / "tianchi_mobile_recommend_train_user.csv")
    assert found.pop(0) == "user_id,item_id,behavior_type,user_geohash,item_category,time"
    row = re.compile(r"\d+,\d+,[1-4],(9[0-9a-z]{6})?,\d+,2014-1[12]-\d\d ([01]\d|2[0-3])")
    assert all(row.fullmatch(line) for line in found)
    split = [line.split(",") for line in found]
    assert 0.6 < np.mean([not r[3] for r in split]) < 0.76
    assert "2014-11-18" <= min(r[5] for r in split) < max(r[5] for r in split) < "2014-12-19"
    names = {"1": "click", "2": "fav", "3": "cart", "4": "buy"}
    assert Counter(names[r[2]] for r in split) == truth(out)["behaviors"]


def test_kuairand_flags_agree_with_each_other(tmp_path: Path) -> None:
    out = simulate("kuairand", tmp_path / "log", users=150, items=400, seed=1)
    (name,) = truth(out)["files"]
    assert re.fullmatch(r"log_\w+\.csv", name)
    header = lines(out / name)[0].split(",")
    assert header[:5] == ["user_id", "video_id", "date", "hourmin", "time_ms"]
    assert len(header) == 19
    found = [dict(zip(header, map(int, row), strict=True)) for row in rows(out / name, header=True)]
    counts: Counter[str] = Counter()
    for one in found:
        local = datetime.fromtimestamp(one["time_ms"] / 1000 + 8 * 3600, UTC)
        assert one["date"] == int(local.strftime("%Y%m%d"))
        assert one["hourmin"] == local.hour * 100 + local.minute
        assert one["long_view"] == (one["play_time_ms"] >= min(18_000, one["duration_ms"]))
        strongest = [("hate", "is_hate"), ("follow", "is_follow"), ("like", "is_like"), ("long_view", "long_view")]
        opened = one["is_click"] | one["is_comment"] | one["is_forward"]
        counts[next((name for name, key in strongest if one[key]), "click" if opened else "skip")] += 1
    assert counts == truth(out)["behaviors"]
    assert len({(one["user_id"], one["video_id"]) for one in found}) == len(found), "shown once"


@pytest.mark.parametrize("year", ["2014", "2018"])
def test_amazon_reviews(tmp_path: Path, year: str) -> None:
    out = simulate("amazon", tmp_path / "log", users=80, items=60, seed=1, layout=f"json-{year}")
    (name,) = truth(out)["files"]
    found = objects(out / name)
    keys = {"reviewerID", "asin", "reviewerName", "reviewText", "overall", "summary", "unixReviewTime", "reviewTime"}
    further = {"helpful"} if year == "2014" else {"verified"}
    optional = set() if year == "2014" else {"vote", "style", "image"}
    for one in found:
        assert keys | further <= set(one) <= keys | further | optional
        assert re.fullmatch(r"A[0-9A-Z]{13}", one["reviewerID"])
        assert re.fullmatch(r"B00[0-9A-Z]{7}", one["asin"])
        assert one["overall"] in {1.0, 2.0, 3.0, 4.0, 5.0}
        day = datetime.fromtimestamp(one["unixReviewTime"], UTC)
        assert one["unixReviewTime"] % 86_400 == 0
        assert one["reviewTime"] == f"{day:%m} {day.day}, {day.year}"
    assert Counter("positive" if one["overall"] > 3 else "negative" for one in found) == truth(out)["behaviors"]
    texts = {one["reviewText"] for one in found}
    assert any("\n" in text for text in texts)
    assert any('"user_id": "me"' in text for text in texts)
    products = [one["asin"] for one in found]
    assert 1 + sum(a != b for a, b in pairwise(products)) == len(set(products)), "the published files go by product"
    # Written as published: a blank after each colon and comma.
    assert all('"overall": ' in line for line in lines(out / name))


def test_amazon_ratings_turn_their_columns_around(tmp_path: Path) -> None:
    old = simulate("amazon", tmp_path / "old", users=80, items=60, seed=1, layout="csv-2014")
    new = simulate("amazon", tmp_path / "new", users=80, items=60, seed=1, layout="csv-2018")
    first, second = list(rows(old / "ratings_Kitchen.csv", False)), list(rows(new / "Kitchen.csv", False))
    assert [(r[1], r[0], *r[2:]) for r in first] == [tuple(r) for r in second]
    assert all(r[0].startswith("A") and r[1].startswith("B") and re.fullmatch(r"[1-5]\.0", r[2]) for r in first)


@pytest.mark.parametrize("layout", ["2014", "2018"])
def test_yelp_reviews_tips_and_businesses(tmp_path: Path, layout: str) -> None:
    out = simulate("yelp", tmp_path / "log", users=150, items=100, seed=1, layout=layout)
    reviews, tips, places = (
        objects(out / f"yelp_academic_dataset_{name}.json") for name in ("review", "tip", "business")
    )
    known = {place["business_id"]: place["categories"] for place in places}
    assert len(known) == 100
    assert any(not categories for categories in known.values())
    kinds = {type(categories) for categories in known.values()}
    assert kinds == ({list} if layout == "2014" else {str, type(None)})
    form = "%Y-%m-%d" if layout == "2014" else "%Y-%m-%d %H:%M:%S"
    for one in [*reviews, *tips]:
        assert ID_22.fullmatch(one["user_id"])
        assert one["business_id"] in known
        assert 2012 <= datetime.strptime(one["date"], form).replace(tzinfo=UTC).year <= 2013
    assert {"votes", "type"} <= set(reviews[0]) if layout == "2014" else {"useful", "funny"} <= set(reviews[0])
    assert {"likes", "type"} <= set(tips[0]) if layout == "2014" else {"compliment_count"} <= set(tips[0])
    stars = Counter("dislike" if r["stars"] <= 2 else "neutral" if r["stars"] < 4 else "like" for r in reviews)
    assert {**stars, "tip": len(tips)} == truth(out)["behaviors"]
    pairs = [(one["user_id"], one["business_id"]) for one in reviews]
    assert len(set(pairs)) == len(pairs) == len({one["review_id"] for one in reviews})


@pytest.mark.parametrize("layout", ["csv", "tsv", "json", "parquet"])
def test_a_table_comes_with_the_settings_that_read_it(tmp_path: Path, layout: str) -> None:
    out = simulate("table", tmp_path / "log", users=80, items=60, seed=1, layout=layout)
    settings = yaml.safe_load((out / "shop.yaml").read_text(encoding="utf-8"))
    table = settings["table"]
    assert len(table) <= 10
    (name,) = [one for one in truth(out)["files"] if one != "shop.yaml"]
    found: list[dict[str, Any]]
    if layout == "parquet":
        found = pq.read_table(out / name).to_pylist()
    elif layout == "json":
        found = objects(out / name)
    else:
        separator = "," if layout == "csv" else "\t"
        header = lines(out / name)[0].split(separator)
        body = rows(out / name, True) if layout == "csv" else (line.split("\t") for line in lines(out / name)[1:])
        found = [dict(zip(header, row, strict=True)) for row in body]

    def value(row: Any, path: str) -> Any:
        for key in path.split("."):
            row = row[key]
        return row

    codes = {code: name for one in table["behaviors"] for name, code in one.items()}
    assert Counter(codes[value(row, table["behavior"])] for row in found) == truth(out)["behaviors"]
    assert len({value(row, table["user"]) for row in found}) == 80
    assert any("," in row["title"] if layout == "csv" else True for row in found)
    assert all(float(value(row, table["value"])) > 0 for row in found)


def test_an_id_of_letters_stands_for_one_number_only() -> None:
    from pipeline.simulate import ids

    numbers = np.concatenate([np.arange(300_000), np.arange(10**9, 10**9 + 1000)])
    for alphabet, width in ((ids.DIGITS, 7), (ids.LETTERS, 22)):
        assert len(np.unique(ids.codes(numbers, 3, alphabet, width))) == len(numbers)
    assert ids.text(ids.codes(np.arange(3), 3, ids.DIGITS, 9, prefix=b"v")).to_pylist() == [
        one.decode() for one in ids.codes(np.arange(3), 3, ids.DIGITS, 9, prefix=b"v").tolist()
    ]
