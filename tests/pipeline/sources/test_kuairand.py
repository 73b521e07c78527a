"""KuaiRand: one event per impression, named by its strongest feedback, with a label; what is refused or quarantined."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.sources import delivery, source
from tests.support.one_file import ingest_text, refusal
from tests.support.raw_logs import lines, write

HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab"
)
START = 1_649_408_000_123
"""2022-04-08 08:53:20.123 UTC."""
FLAGS = ("click", "like", "follow", "comment", "forward", "hate", "long_view")


def impression(*feedback: str, user: int = 7, time: object = START, flags: str = "", tail: str = "0,0,0,0,1") -> str:
    """A row with those flags set, in the order of the file."""
    chosen = flags or ",".join(str(int(name in feedback)) for name in FLAGS)
    return f"{user},5071,20220408,1600,{time},{chosen},1750,8743,{tail}"


def log(*rows: str) -> str:
    return lines([HEADER, *rows])


MANY = [impression(user=user) for user in range(100, 140)]
"""Good rows: a file in which most rows are bad is refused as a whole."""


@pytest.mark.parametrize(
    ("feedback", "behavior", "label"),
    [
        ((), "skip", 0),
        (("click",), "click", 1),
        (("comment",), "click", 1),
        (("forward",), "click", 1),
        (("click", "long_view"), "long_view", 1),
        (("click", "long_view", "comment"), "long_view", 1),
        (("click", "long_view", "like"), "like", 1),
        (("like",), "like", 1),
        (("click", "long_view", "like", "follow"), "follow", 1),
        (("follow",), "follow", 1),
        (("hate",), "hate", 0),
        (FLAGS, "hate", 0),
    ],
)
def test_strongest_feedback_names_the_event(
    tmp_path: Path, feedback: tuple[str, ...], behavior: str, label: int
) -> None:
    found = ingest_text("kuairand", log(impression(*feedback)), tmp_path)
    moment = datetime(2022, 4, 8, 8, 53, 20, 123_000, tzinfo=UTC)
    assert found.row(2) == (7, 5071, behavior, moment, None, label)


REASONS = {
    impression(time=1_649_408_000): "timestamp_in_seconds",
    impression(time="2022-04-08 16:53:20"): "bad_timestamp",
    impression(time=-5): "bad_timestamp",
    impression(time=""): "bad_timestamp",
    impression(time=4_102_444_800_000): "timestamp_out_of_range",
    impression(time=10**30): "timestamp_out_of_range",
    impression(time=START - 86_400_000): "outside_window",
    impression(time=START + 31 * 86_400_000): "outside_window",
    impression(flags="2,0,0,0,0,0,0"): "bad_flag",
    impression(flags="0,,0,0,0,0,0"): "bad_flag",
    impression(flags="0,0,true,0,0,0,0"): "bad_flag",
    impression(flags="01,0,,0,0,0,0"): "bad_flag",
    impression(tail="0,0,0,0,"): "missing_columns",
    impression(tail="0,0,0,0"): "missing_columns",
    impression(tail="0,0,0,0,1,1"): "extra_columns",
    impression().replace("7,5071", "x,5071"): "bad_user_id",
    impression().replace("7,5071", "7,"): "bad_item_id",
    impression().replace("7,5071", "7,-5071"): "negative_id",
    impression().replace("7,5071", "7,99999999999999999999"): "id_overflow",
}


def test_every_reason(tmp_path: Path) -> None:
    found = ingest_text("kuairand", log(*REASONS, *MANY), tmp_path)
    assert {row: found.row(n) for n, row in enumerate(REASONS, 2)} == REASONS
    assert found.accounts.events == len(MANY)


def test_rows_are_accounted_one_by_one(tmp_path: Path) -> None:
    rows = [impression("click", "like"), impression("click", "like"), impression("like"), impression("click")]
    accounts = ingest_text("kuairand", log(*rows), tmp_path).accounts
    assert (accounts.rows, accounts.events, accounts.duplicates) == (4, 2, 2)


def test_bytes_around_the_rows(tmp_path: Path) -> None:
    whole = (log(*MANY) + impression(user=9)).replace("\n", "\r\n").encode("utf-8-sig")
    assert ingest_text("kuairand", whole, tmp_path / "whole").accounts.events == len(MANY) + 1
    cut = ingest_text("kuairand", log(*MANY) + impression(user=9)[:-1], tmp_path / "cut")
    assert list(cut.reasons.values()) == ["cut_line"]


def test_directory_gives_every_part(tmp_path: Path) -> None:
    names = ["log_random_4_22_to_5_08_pure.csv", "log_standard_4_08_to_4_21_pure.csv"]
    for name in (*names, "user_features_pure.csv"):
        write(tmp_path / "data" / name, log(*MANY))
    for directory in (tmp_path, tmp_path / "data"):
        assert [file.path.name for file in delivery(source("kuairand"), directory)] == names


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        pytest.param(HEADER.replace(",is_hate", ""), "1,2", ["missing is_hate"], id="column removed"),
        pytest.param(HEADER + ",is_collect", MANY[0] + ",0", ["unknown is_collect"], id="column added"),
        pytest.param(
            HEADER.replace("long_view", "is_long_view"),
            MANY[0],
            ["unknown is_long_view", "missing long_view"],
            id="column renamed",
        ),
        pytest.param(
            HEADER.replace("is_like,is_follow", "is_follow,is_like"),
            MANY[0],
            ["would be swapped"],
            id="columns swapped",
        ),
        pytest.param(
            HEADER, impression(flags="True" + ",0" * 6), ["column 6 (is_click) is 'True'", "0 or 1"], id="flags retyped"
        ),
        pytest.param(
            HEADER,
            impression(time=1_649_408_000),
            ["column 5 (time_ms) is '1649408000'", "milliseconds since 1970"],
            id="seconds",
        ),
        pytest.param("video_id,author_id,tag", "1,2,3", ["missing user_id"], id="the video file"),
    ],
)
def test_what_is_not_kuairand_is_refused(tmp_path: Path, header: str, row: str, words: list[str]) -> None:
    message = refusal("kuairand", lines([header, row]), tmp_path)
    for word in words:
        assert word in message


def test_other_sources_name_it(tmp_path: Path) -> None:
    assert "set dataset to kuairand" in refusal("movielens", log(*MANY), tmp_path)
