"""Yelp academic data set: reviews and tips as JSON lines, with the businesses' categories if their file stands beside.

- A review is a behavior by its stars: up to 2 dislike, below 4 neutral, from 4 on like. A tip is the behavior ``tip``.
- ``date`` is a day (layouts up to 2017) or a second (from 2018 on). Yelp names no zone: it is taken as UTC.
- A business' category is its first one: ``categories`` is a list in the old layouts, text with commas in the new ones.
  Without a business file, or for a business that is not in it, there is none.
- Ids are 22 characters. Texts are not kept.
"""

import os
from dataclasses import replace
from pathlib import Path

from pipeline.sources.base import Column, Layout, pick
from pipeline.sources.keys import fit_keys, objects
from pipeline.storage.events_store import IdType

NAME = "yelp"
DESCRIPTION = "Yelp review and tip files: JSON lines with user_id, business_id, date and, in reviews, stars"
BEHAVIORS: tuple[str, ...] = ("tip", "dislike", "neutral", "like")
USER_ID_TYPE: IdType = "string"
ITEM_ID_TYPE: IdType = "string"
CATEGORY_ID_TYPE: IdType = "string"

_USER = Column("user_id", r'"[\w-]{22}"', "a string of 22 characters")
_BUSINESS = Column("business_id", r'"[\w-]{22}"', "a string of 22 characters")
_DATE = Column("date", r'"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?"', "a day or a second, YYYY-MM-DD HH:MM:SS")
_STARS = Column("stars", r"[1-5](\.0)?", "a number from 1 to 5")

REVIEWS = Layout(
    name="Yelp reviews",
    statement="ingest/20_yelp",
    columns=(_USER, _BUSINESS, _DATE, _STARS),
    format="json",
    before=(("categories", "ingest/15_yelp_categories"),),
    variables={"rated": True},
)
TIPS = replace(REVIEWS, name="Yelp tips", columns=(_USER, _BUSINESS, _DATE), variables={"rated": False})
BUSINESSES = Layout(
    name="Yelp businesses",
    statement="ingest/15_yelp_categories",
    columns=(_BUSINESS, Column("categories", r"null|\[.*\]|\".*\"", "a list or text")),
    format="json",
)

_FURTHER_KEYS = {
    REVIEWS.name: ("review_id", "text", "useful", "funny", "cool", "votes", "type"),
    TIPS.name: ("text", "likes", "compliment_count", "type"),
}


def find(directory: Path) -> list[Path]:
    """The reviews and the tips, under their long names or, if there are none, their short ones."""
    return _named(directory, "review.json", "tip.json")


def detect(path: Path) -> Layout:
    found = objects(path, "a Yelp review or tip file")
    rated = sum("stars" in one or "review_id" in one for _, one in found) * 2 > len(found)
    layout = REVIEWS if rated else TIPS
    fit_keys(path, layout, found, _FURTHER_KEYS[layout.name])
    businesses = next(iter(_named(path.parent, "business.json")), None)
    if businesses:
        fit_keys(businesses, BUSINESSES, objects(businesses, BUSINESSES.name), None)
    return replace(
        layout,
        joined=businesses,
        # Without a business file the statement reads an empty one.
        variables={**layout.variables, "businesses": str(businesses or os.devnull)},
    )


def behavior_code(line: str) -> str:
    return line


def _named(directory: Path, *names: str) -> list[Path]:
    return pick(directory, [f"yelp_academic_dataset_{name}" for name in names]) or pick(directory, names)
