"""One file per day: the same rows, some of them late, some files twice."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.simulate import Dirt, simulate
from tests.pipeline.simulate.logs import digests, every_flaw, lines, log_files, truth

DAYS = {"amazon": 20, "movielens": 20, "yelp": 20, "tmall": 20}
"""Long logs are cut short here."""


def body(path: Path) -> list[str]:
    """The lines without a header."""
    found = lines(path)
    return found[1:] if not any(character.isdigit() for character in found[0]) else found


@pytest.mark.parametrize(
    ("source", "layout"),
    [
        ("taobao", ""),
        ("movielens", "latest"),
        ("tmall", "full"),
        ("tianchi", ""),
        ("kuairand", ""),
        ("amazon", "json-2018"),
        ("yelp", "2018"),
        ("table", "csv"),
    ],
)
def test_the_days_together_are_the_log(tmp_path: Path, source: str, layout: str) -> None:
    dirt = every_flaw(source, layout)
    settings: dict[str, Any] = {"users": 80, "items": 60, "seed": 4, "layout": layout, "days": DAYS.get(source)}
    whole = simulate(source, tmp_path / "whole", dirt=dirt, **settings)
    daily = simulate(source, tmp_path / "daily", per_day=True, dirt={**dirt.model_dump(), "late_rows": 30}, **settings)
    one = Counter(line for name in log_files(whole) for line in body(whole / name))
    many = Counter(line for name in log_files(daily) for line in body(daily / name))
    assert one == many
    assert len(log_files(daily)) > 5
    told = truth(daily)
    assert told["accounts"] == truth(whole)["accounts"]
    by_file = told["accounts_by_file"]
    for key, total in told["accounts"].items():
        assert sum(account[key] for account in by_file.values()) == total
    for name in log_files(daily):
        assert len(body(daily / name)) == by_file[name]["rows"]


def day_of(line: str) -> str:
    return datetime.fromtimestamp(int(line.rsplit(",", 1)[1]), UTC).date().isoformat()


def test_a_file_holds_its_day_and_the_late_rows_of_three_before(tmp_path: Path) -> None:
    clean = simulate("taobao", tmp_path / "clean", users=80, items=60, seed=4, per_day=True)
    late = simulate("taobao", tmp_path / "late", users=80, items=60, seed=4, per_day=True, dirt={"late_rows": 45})
    # Ten UTC days: Beijing's nine begin at 16:00 UTC.
    assert log_files(clean) == [f"2017-11-{day}/UserBehavior.csv" for day in range(24, 31)] + [
        f"2017-12-0{day}/UserBehavior.csv" for day in range(1, 4)
    ]
    found: dict[str, Counter[str]] = {}
    for name in log_files(late):
        date = name.split("/")[0]
        for line in lines(late / name):
            if day_of(line) != date:
                found.setdefault(day_of(line), Counter())[date] += 1
    assert {own: dict(files) for own, files in found.items()} == truth(late)["late_rows"]
    assert sum(sum(files.values()) for files in found.values()) == 45
    for own, files in found.items():
        assert all(1 <= (datetime.fromisoformat(date) - datetime.fromisoformat(own)).days <= 3 for date in files)
    for name in log_files(clean):
        assert {day_of(line) for line in lines(clean / name)} == {name.split("/")[0]}


def test_files_come_twice_byte_by_byte(tmp_path: Path) -> None:
    dirt = Dirt(duplicate_files=3, unknown_codes=9, duplicates=5)
    out = simulate("taobao", tmp_path / "log", users=60, items=50, seed=4, per_day=True, dirt=dirt)
    sums = digests(out)
    again = [name for name in log_files(out) if "_again" in name]
    assert len(again) == 3
    told = truth(out)["accounts_by_file"]
    for name in again:
        first = name.replace("_again", "")
        assert sums[name] == sums[first]
        assert told[name]["events"] == 0
        assert told[name]["quarantined"] == told[first]["quarantined"], "rows are judged one by one"
        assert told[name]["rows"] == told[first]["rows"]


def test_a_file_that_comes_twice_counts_no_row_where_equal_rows_are_events(tmp_path: Path) -> None:
    dirt = Dirt(duplicate_files=3, unknown_codes=9)
    out = simulate("tianchi", tmp_path / "log", users=60, items=50, seed=4, per_day=True, dirt=dirt)
    told = truth(out)["accounts_by_file"]
    for name in (name for name in told if "_again" in name):
        assert told[name]["duplicates"] == told[name]["rows"] == told[name.replace("_again", "")]["rows"]


def test_what_is_joined_stands_beside_every_file(tmp_path: Path) -> None:
    out = simulate("yelp", tmp_path / "log", users=40, items=30, seed=4, per_day=True, days=6)
    for name in log_files(out):
        assert (out / name).with_name("yelp_academic_dataset_business.json").is_file()


def test_a_table_has_a_file_named_by_each_date(tmp_path: Path) -> None:
    out = simulate("table", tmp_path / "log", users=40, items=30, seed=4, per_day=True, days=3, layout="tsv", gzip=True)
    assert log_files(out) == ["2024-01-07.tsv.gz", "2024-01-08.tsv.gz", "2024-01-09.tsv.gz", "2024-01-10.tsv.gz"]
    assert "*.tsv.gz" in (out / "shop.yaml").read_text(encoding="utf-8")
