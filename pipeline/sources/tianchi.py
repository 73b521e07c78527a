"""Tianchi mobile (Alibaba's recommendation challenge): a month of clicks, favorites, carts and purchases by hour.

- ``time`` is ``YYYY-MM-DD HH`` in Beijing: an event's time is the beginning of that hour, and an hour carries no order.
- ``behavior_type``: 1 click, 2 fav, 3 cart, 4 buy. ``item_category`` is the category; ``user_geohash``, mostly empty,
  is not kept.
"""

from pathlib import Path

from pipeline.sources.base import Column, Layout, fit, pick
from pipeline.storage.events_store import IdType

NAME = "tianchi"
DESCRIPTION = "Tianchi mobile log: user_id,item_id,behavior_type,user_geohash,item_category,time"
BEHAVIORS: tuple[str, ...] = ("click", "fav", "cart", "buy")
USER_ID_TYPE: IdType = "int64"
ITEM_ID_TYPE: IdType = "int64"
CATEGORY_ID_TYPE: IdType = "int64"

LAYOUT = Layout(
    name="Tianchi mobile log",
    statement="ingest/20_tianchi",
    columns=(
        Column("user_id", r"-?\d+", "an integer id"),
        Column("item_id", r"-?\d+", "an integer id"),
        Column("behavior_type", r"\d+", "1 click, 2 fav, 3 cart or 4 buy"),
        Column("user_geohash", r"[0-9a-z]*", "a geohash or nothing"),
        Column("item_category", r"-?\d+", "an integer id"),
        Column("time", r"\d{4}-\d\d-\d\d \d\d", "a day and an hour, YYYY-MM-DD HH"),
    ),
    header=("user_id", "item_id", "behavior_type", "user_geohash", "item_category", "time"),
)

_FILES = (
    "tianchi_mobile_recommend_train_user.csv",
    "tianchi_fresh_comp_train_user.csv",
    "tianchi_fresh_comp_train_user_2w.csv",
    "sample_user_behavior.csv",
)


def find(directory: Path) -> list[Path]:
    """The log under the first of its published names; the smaller ones are parts of the larger."""
    return next((found for name in _FILES if (found := pick(directory, [name]))), [])


def detect(path: Path) -> Layout:
    return fit(path, LAYOUT)


def behavior_code(line: str) -> str:
    return (LAYOUT.split(line) + [""] * 3)[2]
