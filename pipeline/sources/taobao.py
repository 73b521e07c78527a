"""Taobao ``UserBehavior.csv``: user, item, category, behavior, unix seconds; no header; sorted by user.

The published file covers 2017-11-25 to 2017-12-03 (Beijing time) and holds a few rows with wrong clocks, some of them
decades away: the preset's time window deals with them by name.
"""

from pathlib import Path

from pipeline.sources.base import ITEM, SECONDS, USER, Column, Layout, Plain, fit, pick
from pipeline.storage.events_store import IdType

NAME = "taobao"
DESCRIPTION = "Taobao UserBehavior.csv: user,item,category,behavior,timestamp without a header"
BEHAVIORS: tuple[str, ...] = ("pv", "fav", "cart", "buy")
USER_ID_TYPE: IdType = "int64"
ITEM_ID_TYPE: IdType = "int64"
CATEGORY_ID_TYPE: IdType = "int64"

LAYOUT = Layout(
    name="Taobao UserBehavior.csv",
    statement="ingest/20_taobao",
    columns=(
        USER,
        ITEM,
        Column("category", r"-?\d+", "an integer id"),
        Column("behavior", r"\w+", "pv, fav, cart or buy"),
        SECONDS,
    ),
    plain=Plain(
        statement="ingest/21_taobao_plain",
        columns={
            "user_id": "integer",
            "item_id": "integer",
            "category_id": "integer",
            "behavior": BEHAVIORS,
            "seconds": "integer",
        },
    ),
)


def find(directory: Path) -> list[Path]:
    return pick(directory, ["UserBehavior.csv"])


def detect(path: Path) -> Layout:
    return fit(path, LAYOUT)


def behavior_code(line: str) -> str:
    return LAYOUT.split(line)[3]
