"""Tmall (IJCAI-15) ``user_log_format1.csv``: half a year of clicks, carts, purchases and favorites, days only.

- ``time_stamp`` is mmdd of 2014, Beijing days, with or without a leading zero: an event's time is that midnight. The
  rows of a user are not sorted, and a day carries no order.
- ``action_type``: 0 click, 1 cart, 2 buy, 3 fav. ``cat_id`` is the category; ``seller_id`` and ``brand_id``, which may
  be empty, are not kept.
- A reduced form of the log, with an index column and without category, seller and brand, is read too.
"""

from pathlib import Path

from pipeline.ingest.lines import sample
from pipeline.sources.base import Column, Layout, fit, pick
from pipeline.storage.events_store import IdType

NAME = "tmall"
DESCRIPTION = "Tmall user_log_format1.csv: user_id,item_id,cat_id,seller_id,brand_id,time_stamp,action_type"
BEHAVIORS: tuple[str, ...] = ("click", "fav", "cart", "buy")
USER_ID_TYPE: IdType = "int64"
ITEM_ID_TYPE: IdType = "int64"
CATEGORY_ID_TYPE: IdType = "int64"

_USER = Column("user_id", r"-?\d+", "an integer id")
_ITEM = Column("item_id", r"-?\d+", "an integer id")
_DAY = Column("time_stamp", r"\d{3,4}", "month and day, mmdd")
_ACTION = Column("action_type", r"\d+", "0 click, 1 cart, 2 buy or 3 fav")

LOG = Layout(
    name="Tmall user_log_format1.csv",
    statement="ingest/20_tmall",
    columns=(
        _USER,
        _ITEM,
        Column("cat_id", r"-?\d+", "an integer id"),
        Column("seller_id", r"-?\d+", "an integer id"),
        Column("brand_id", r"(-?\d+)?", "an integer id or nothing"),
        _DAY,
        _ACTION,
    ),
    header=("user_id", "item_id", "cat_id", "seller_id", "brand_id", "time_stamp", "action_type"),
)
REDUCED = Layout(
    name="Tmall reduced log",
    statement="ingest/20_tmall_sample",
    columns=(Column("index", r"\d+", "a row number"), _USER, _ITEM, _DAY, _ACTION),
    header=("", "user_id", "item_id", "time_stamp", "action_type"),
)


def find(directory: Path) -> list[Path]:
    return pick(directory, ["user_log_format1.csv"]) or pick(directory, ["data_sample.csv"])


def detect(path: Path) -> Layout:
    _, header = sample(path)[0]
    return fit(path, REDUCED if len(header.split(",")) <= len(REDUCED.header) else LOG)


def behavior_code(line: str) -> str:
    return line.rpartition(",")[2]
