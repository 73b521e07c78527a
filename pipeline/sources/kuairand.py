"""KuaiRand ``log_*.csv``: impressions of short videos, each with twelve feedback signals, in milliseconds.

A row is one impression, so it becomes one event, and rows = events + duplicates + quarantined holds row by row. Its
behavior is the strongest feedback it got, in this order:

    hate > follow > like > long_view > click > skip

``skip`` is an impression without any of them. A comment or a forward without any of them counts as a click: who writes
below a video has opened it. An event's value is the feedback label, 0 negative (hate, skip) or 1 positive (the others).
Logs of the random intervention (``log_random_*``) have the same columns and are impressions like any other. Durations,
profile visits, ``tab`` and ``date`` and ``hourmin``, which repeat ``time_ms``, are not kept.
"""

from pathlib import Path

from pipeline.sources.base import Column, Layout, Plain, fit, pick
from pipeline.storage.events_store import IdType

NAME = "kuairand"
DESCRIPTION = "KuaiRand log_*.csv: user_id,video_id,date,hourmin,time_ms,is_click,is_like,...,is_rand,tab"
BEHAVIORS: tuple[str, ...] = ("skip", "hate", "click", "long_view", "like", "follow")
USER_ID_TYPE: IdType = "int64"
ITEM_ID_TYPE: IdType = "int64"
CATEGORY_ID_TYPE: IdType = "int64"


_FLAG = r"[01]"


def _id(name: str) -> Column:
    return Column(name, r"-?\d+", "an integer id")


def _flag(name: str) -> Column:
    return Column(name, _FLAG, "0 or 1")


def _amount(name: str) -> Column:
    return Column(name, r"\d+(\.\d+)?", "a number")


_COLUMNS = (
    _id("user_id"),
    _id("video_id"),
    Column("date", r"\d{8}", "a day, yyyymmdd"),
    Column("hourmin", r"\d{1,4}", "hour and minute, hhmm"),
    Column("time_ms", r"\d{12,14}", "milliseconds since 1970"),
    _flag("is_click"),
    _flag("is_like"),
    _flag("is_follow"),
    _flag("is_comment"),
    _flag("is_forward"),
    _flag("is_hate"),
    _flag("long_view"),
    _amount("play_time_ms"),
    _amount("duration_ms"),
    _amount("profile_stay_time"),
    _amount("comment_stay_time"),
    _flag("is_profile_enter"),
    _flag("is_rand"),
    _amount("tab"),
)

LAYOUT = Layout(
    name="KuaiRand log",
    statement="ingest/20_kuairand",
    columns=_COLUMNS,
    header=tuple(column.name for column in _COLUMNS),
    plain=Plain(
        statement="ingest/21_kuairand_plain",
        columns={column.name: ("0", "1") if column.pattern == _FLAG else "integer" for column in _COLUMNS},
    ),
)


def find(directory: Path) -> list[Path]:
    """Every part of the standard and random logs, in ``directory`` or in its ``data``, as the archive has it."""
    return pick(directory, ["log_*.csv"]) or pick(directory / "data", ["log_*.csv"])


def detect(path: Path) -> Layout:
    return fit(path, LAYOUT)


def behavior_code(line: str) -> str:
    return line
