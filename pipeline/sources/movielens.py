"""MovieLens ratings and tags in the three layouts its releases have had.

- 100K: ``u.data``, tab between columns, no header.
- 1M, 10M: ``ratings.dat`` and ``tags.dat``, ``::`` between columns, no header.
- latest, 20M and later: ``ratings.csv`` and ``tags.csv`` with a header, tags quoted where they hold commas.

A rating is a behavior: up to 2 dislike, below 4 neutral, from 4 on like. A tag is the behavior ``tag``; its text is not
kept, so a tag line is read from both ends and whatever quotes and separators the text holds cannot shift a column.
"""

from pathlib import Path

from hmar.errors import DataError
from pipeline.ingest.lines import sample
from pipeline.sources.base import ITEM, SECONDS, USER, Column, Layout, fit, pick, shown
from pipeline.storage.events_store import IdType

NAME = "movielens"
DESCRIPTION = "MovieLens: user, film, rating or tag, timestamp (u.data, ratings.dat or ratings.csv)"
BEHAVIORS: tuple[str, ...] = ("tag", "dislike", "neutral", "like")
USER_ID_TYPE: IdType = "int64"
ITEM_ID_TYPE: IdType = "int64"
CATEGORY_ID_TYPE: IdType = "int64"

_RATING = Column("rating", r"-?\d+(\.\d+)?", "a rating from 0.5 to 5")
_TAG = Column("tag", r".*", "text")


def _ratings(name: str, separator: str, header: tuple[str, ...] = ()) -> Layout:
    return Layout(
        name=name,
        statement="ingest/20_movielens_ratings",
        columns=(USER, ITEM, _RATING, SECONDS),
        separator=separator,
        header=header,
        variables={"separator": separator},
    )


def _tags(name: str, separator: str, header: tuple[str, ...] = ()) -> Layout:
    return Layout(
        name=name,
        statement="ingest/20_movielens_tags",
        columns=(USER, ITEM, _TAG, SECONDS),
        separator=separator,
        header=header,
        open_ended=True,
        variables={"separator": separator},
    )


U_DATA = _ratings("MovieLens u.data", "\t")
RATINGS_DAT = _ratings("MovieLens ratings.dat", "::")
RATINGS_CSV = _ratings("MovieLens ratings.csv", ",", ("userId", "movieId", "rating", "timestamp"))
TAGS_DAT = _tags("MovieLens tags.dat", "::")
TAGS_CSV = _tags("MovieLens tags.csv", ",", ("userId", "movieId", "tag", "timestamp"))

_RELEASES = (("u.data",), ("ratings.dat", "tags.dat"), ("ratings.csv", "tags.csv"))


def find(directory: Path) -> list[Path]:
    """The ratings and, if they are there, the tags.

    Raises:
        DataError: the directory holds ratings of two releases.
    """
    found = [pick(directory, names) for names in _RELEASES if pick(directory, names[:1])]
    if len(found) > 1:
        raise DataError(
            f"{directory}: holds the ratings of more than one release "
            f"({', '.join(paths[0].name for paths in found)}); give the file itself"
        )
    return found[0] if found else []


def detect(path: Path) -> Layout:
    number, first = sample(path)[0]
    tags = path.name.startswith("tags")
    if "::" in first:
        return fit(path, TAGS_DAT if tags else RATINGS_DAT)
    if "\t" in first:
        return fit(path, U_DATA)
    if "," in first:
        columns = first.split(",")
        return fit(path, TAGS_CSV if "tag" in columns or (tags and "rating" not in columns) else RATINGS_CSV)
    raise DataError(
        f"{path}, line {number}: found {shown(first)}, expected the columns of u.data (tabs), ratings.dat (::) or "
        f"ratings.csv (commas, with a header); give the right file, or the dataset whose format this is"
    )


def behavior_code(line: str) -> str:
    return line
