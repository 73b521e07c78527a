"""The newest partition against the ones before it."""

from datetime import UTC, date, datetime, timedelta

import pytest

from pipeline.checks.over_time import distance, measures
from pipeline.storage.events_store import Partition

FIRST = date(2020, 1, 1)


def partition(day: int, behaviors: dict[str, int], inputs: dict[str, int] | None = None) -> Partition:
    moment = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=day)
    return Partition(
        event_date=FIRST + timedelta(days=day),
        path=f"event_date={day}/a.parquet",
        rows=sum(behaviors.values()),
        content_digest="",
        sha256="",
        bytes=1,
        min_time=moment,
        max_time=moment,
        behaviors=behaviors,
        inputs=inputs or {"a": sum(behaviors.values())},
    )


def test_volume_is_a_multiple_of_the_median_before() -> None:
    usual = [partition(day, {"pv": rows}) for day, rows in enumerate([100, 90, 1000, 110])]
    newest = partition(4, {"pv": 42})
    found = measures([newest, *usual], trailing=7)
    assert found["volume"] == pytest.approx(42 / 105)
    assert found["behavior_drift"] == 0


def test_only_the_trailing_ones_count() -> None:
    log = [partition(day, {"pv": 1_000_000}) for day in range(5)]
    log += [partition(day, {"pv": 10}) for day in range(5, 9)]
    assert measures(log, trailing=3)["volume"] == 1


def test_drift_is_the_share_that_would_have_to_change() -> None:
    log = [partition(day, {"pv": 90, "buy": 10}) for day in range(3)]
    assert measures([*log, partition(3, {"pv": 40, "buy": 10})], 7)["behavior_drift"] == pytest.approx(0.1)
    assert measures([*log, partition(3, {"fav": 5})], 7)["behavior_drift"] == 1
    assert distance({"pv": 1}, {"pv": 70}) == 0


def test_days_that_only_late_rows_came_to_are_not_usual() -> None:
    """Days taken in backwards: the days before have a few late rows each."""
    late = [partition(day, {"pv": 3}, {"day5": 3}) for day in range(4)]
    newest = partition(5, {"pv": 100}, {"day5": 100})
    assert measures([*late, newest], 7, ["day5"])["volume"] is None
    assert measures([*late, newest], 7)["volume"] == pytest.approx(100 / 3)


def test_the_newest_is_what_the_added_files_are_about() -> None:
    log = [partition(day, {"pv": 100}, {f"day{day}": 97, f"day{day + 1}": 3}) for day in range(4)]
    tomorrow = partition(5, {"pv": 2}, {"day4": 2})
    short = partition(4, {"pv": 10}, {"day4": 10})
    assert measures([*log, short, tomorrow], 7, ["day4"])["volume"] == pytest.approx(0.1)
    again = partition(5, {"pv": 90}, {"day4": 2, "day5": 88})
    assert measures([*log, short, again], 7, ["day4"])["volume"] == pytest.approx(0.1)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_short_log_has_no_usual(count: int) -> None:
    found = measures([partition(day, {"pv": 1}) for day in range(count)], 7)
    assert found == {"volume": None, "behavior_drift": None}
