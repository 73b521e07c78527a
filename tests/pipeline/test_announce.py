"""Who waits for a dataset's events hears of every change, of nothing else, and of none too few after a crash."""

import json
from pathlib import Path

import pytest

from hmar.errors import DataError
from pipeline.settings import RetrainSettings
from pipeline.stages.announce import changes, settle
from pipeline.stages.ingest import land
from pipeline.stages.validate import validate
from tests.support.raw_logs import DAY, START, settings, taobao_rows, write

FIRST, SECOND, THIRD = "2017-11-24", "2017-11-25", "2017-11-26"
"""START is four in the afternoon of the first."""


@pytest.fixture
def s(tmp_path: Path) -> RetrainSettings:
    return settings("taobao", tmp_path / "UserBehavior.csv", tmp_path / "home")


def publish(s: RetrainSettings, rows: list[str]) -> None:
    write(s.raw, "".join(f"{row}\n" for row in rows))
    validate(s, land(s))


def test_the_first_time_all_partitions_are_news(s: RetrainSettings) -> None:
    publish(s, taobao_rows(30) + taobao_rows(20, START + DAY))
    found = changes(s)
    assert found.changed
    assert found.events == {FIRST: 30, SECOND: 20}
    assert found.accounts.events == 50


def test_nothing_is_news_once_it_is_settled(s: RetrainSettings) -> None:
    publish(s, taobao_rows(30))
    settle(s, changes(s))
    again = changes(s)
    assert not again.changed
    assert again.partitions == {}


@pytest.mark.slow
def test_only_partitions_with_other_events_are_news(s: RetrainSettings) -> None:
    first, second, third = (taobao_rows(20, START + n * DAY) for n in range(3))
    publish(s, first + second)
    settle(s, changes(s))
    publish(s, third + second[::-1] + first[:19])
    found = changes(s)
    assert found.changed
    assert found.events == {FIRST: 19, THIRD: 20}, "the second has the same events in other rows"
    settle(s, found)
    publish(s, first + second)
    assert changes(s).events == {FIRST: 20, THIRD: 0}
    assert changes(s).partitions[THIRD] == "", "gone"


@pytest.mark.slow
def test_what_was_published_and_not_told_is_told_next_time(s: RetrainSettings) -> None:
    publish(s, taobao_rows(20))
    settle(s, changes(s))
    publish(s, taobao_rows(20) + taobao_rows(20, START + DAY))
    lost = changes(s)
    publish(s, taobao_rows(20) + taobao_rows(20, START + DAY) + taobao_rows(20, START + 2 * DAY))
    assert set(changes(s).partitions) == {SECOND, THIRD}
    settle(s, lost)
    assert set(changes(s).partitions) == {THIRD}


def test_listeners_for_partitions_hear_later_what_only_the_others_were_told(s: RetrainSettings) -> None:
    publish(s, taobao_rows(20))
    settle(s, changes(s), partitions=False)
    assert not changes(s).changed
    assert set(changes(s).partitions) == {FIRST}


@pytest.mark.parametrize("content", ["", "[]", json.dumps({"digest": "another"})])
def test_a_file_that_is_none_of_ours_means_telling_all(s: RetrainSettings, content: str) -> None:
    publish(s, taobao_rows(20))
    write(s.paths.announced(s.name), content)
    assert changes(s).changed
    assert set(changes(s).partitions) == {FIRST}


def test_there_is_nothing_to_tell_before_the_first_events(s: RetrainSettings) -> None:
    with pytest.raises(DataError, match="no events are published here"):
        changes(s)
