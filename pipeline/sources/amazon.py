"""Amazon reviews of 2014 and 2018: 5-core review files (JSON lines) and ratings-only files (CSV without a header).

- Review files: ``reviewerID``, ``asin``, ``overall`` and ``unixReviewTime``; 2018 adds ``verified``, ``vote``,
  ``style`` and ``image``. Lines of the complete 2014 files are Python dictionaries, not JSON: they are refused.
- Ratings files have no header, and the two years order their columns differently: user,item,rating,timestamp in 2014,
  item,user,rating,timestamp in 2018. The ids tell: an item is an ISBN-10 or ten characters that begin with B, a user's
  begins with A or #oc-R. Where they do not tell, the file is refused, or users and items would be swapped.
- A rating above 3 is the behavior positive, any other negative. Times are seconds, in fact days.
"""

import re
from pathlib import Path

from hmar.errors import DataError
from pipeline.ingest.lines import sample
from pipeline.sources.base import SECONDS, Column, Layout, fit, pick, shown
from pipeline.sources.keys import fit_keys, objects
from pipeline.storage.events_store import IdType

NAME = "amazon"
DESCRIPTION = (
    "Amazon reviews: JSON lines (reviewerID, asin, overall, unixReviewTime) or ratings as CSV without a header"
)
BEHAVIORS: tuple[str, ...] = ("negative", "positive")
USER_ID_TYPE: IdType = "string"
ITEM_ID_TYPE: IdType = "string"
CATEGORY_ID_TYPE: IdType = "string"

_USER = r"(A|#oc-R)[0-9A-Z]{1,30}"
_ITEM = r"[0-9A-Z]{10}"
_SURE_ITEM = r"B[0-9A-Z]{9}|\d{9}[\dX]"

_RATING = Column("rating", r"[1-5](\.0+)?", "a rating from 1 to 5")
_BY_USER = (Column("user", _USER, "a user id (A...)"), Column("item", _ITEM, "an item id of ten characters"))

REVIEWS = Layout(
    name="Amazon reviews",
    statement="ingest/20_amazon_reviews",
    columns=(
        Column("reviewerID", f'"{_USER}"', "a user id (A...)"),
        Column("asin", f'"{_ITEM}"', "an item id of ten characters"),
        Column("overall", r"[1-5](\.0+)?", "a number from 1 to 5"),
        Column("unixReviewTime", r"\d{1,10}", "whole seconds since 1970"),
    ),
    format="json",
)
RATINGS_2014 = Layout(
    name="Amazon ratings of 2014",
    statement="ingest/20_amazon_ratings",
    columns=(*_BY_USER, _RATING, SECONDS),
    variables={"item_first": False},
)
RATINGS_2018 = Layout(
    name="Amazon ratings of 2018",
    statement="ingest/20_amazon_ratings",
    columns=(*reversed(_BY_USER), _RATING, SECONDS),
    variables={"item_first": True},
)

_FURTHER_KEYS = (
    "reviewerName",
    "helpful",
    "reviewText",
    "summary",
    "reviewTime",
    "verified",
    "vote",
    "style",
    "image",
)


def find(directory: Path) -> list[Path]:
    """The files of this format; their names are the categories', so it is the content that counts."""
    return [path for path in pick(directory, ["*.json", "*.csv"]) if _is_ours(path)]


def detect(path: Path) -> Layout:
    number, first = sample(path)[0]
    if first.lstrip().startswith("{"):
        return fit_keys(path, REVIEWS, objects(path, "an Amazon review file"), _FURTHER_KEYS)
    lines = [line.split(",") for _, line in sample(path)]
    rows = [parts for parts in lines if len(parts) == 4]
    user_first = sum(bool(re.fullmatch(_USER, row[0]) and re.fullmatch(_SURE_ITEM, row[1])) for row in rows)
    item_first = sum(bool(re.fullmatch(_SURE_ITEM, row[0]) and re.fullmatch(_USER, row[1])) for row in rows)
    if user_first * 2 > len(lines):
        return fit(path, RATINGS_2014)
    if item_first * 2 > len(lines):
        return fit(path, RATINGS_2018)
    raise DataError(
        f"{path}, line {number}: found {shown(first)}; {RATINGS_2014.expected} (2014) and "
        f"{RATINGS_2018.expected} (2018) are told apart by their ids, an item's ten characters (B... or an ISBN) and a "
        "user's A..., and these tell neither; give the right file, or read it as a table, where the columns are named"
    )


def behavior_code(line: str) -> str:
    return line


def _is_ours(path: Path) -> bool:
    try:
        detect(path)
    except DataError:
        return False
    return True
