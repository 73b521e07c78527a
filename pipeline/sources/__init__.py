"""Raw log formats, one module each: its files, columns, codes and quirks. The name in the dict is the module's.

``table`` is not in it: that source is made from settings.
"""

from pathlib import Path
from typing import cast

from hmar.errors import DataError, SettingsError
from hmar.settings import nearest
from pipeline.settings import RetrainSettings
from pipeline.sources import amazon, kuairand, movielens, taobao, tianchi, tmall, yelp
from pipeline.sources.base import Layout, RawFile, Reason, Source
from pipeline.sources.paths import is_pattern, matched
from pipeline.sources.table import TableSource

__all__ = ["SOURCES", "Layout", "RawFile", "Reason", "Source", "delivery", "source", "source_of"]

SOURCES: dict[str, Source] = {
    "amazon": cast(Source, amazon),
    "kuairand": cast(Source, kuairand),
    "movielens": cast(Source, movielens),
    "taobao": cast(Source, taobao),
    "tianchi": cast(Source, tianchi),
    "tmall": cast(Source, tmall),
    "yelp": cast(Source, yelp),
}


def source(name: str) -> Source:
    """The source of that name.

    Raises:
        SettingsError: there is none; the nearest known one is named.
    """
    if name not in SOURCES:
        raise SettingsError(f"source: unknown raw format {name!r}{nearest(name, {*SOURCES, 'table'})}")
    return SOURCES[name]


def source_of(s: RetrainSettings) -> Source:
    """The source of a run.

    Raises:
        SettingsError: ``s.source`` is unknown.
    """
    return TableSource(s.table) if s.table is not None else source(s.source)


def delivery(origin: Source, raw: Path) -> list[RawFile]:
    """The files that ``raw`` stands for, by name, each with its layout.

    Args:
        raw: one file, which is taken as it is; a directory, in which the source looks for its files; or a pattern,
            whose files are named relative to its part before the first wildcard.

    Raises:
        DataError: nothing there, nothing in it, or not of this source (the source it looks like is named).
    """
    if raw.is_dir():
        paths, base = origin.find(raw), raw
        if not paths:
            raise DataError(f"{raw}: no file of this source in it ({origin.DESCRIPTION}){_elsewhere(origin, raw)}")
    elif raw.is_file():
        paths, base = [raw], raw.parent
    elif is_pattern(raw):
        base, paths = matched(raw)
    else:
        raise DataError(f"{raw}: no such file or directory; give the file or directory of the raw log as raw")
    files = [RawFile(path, path.relative_to(base).as_posix(), _detect(origin, path)) for path in paths]
    return sorted(files, key=lambda file: file.name)


def _elsewhere(origin: Source, raw: Path) -> str:
    """What to do about a directory without a file of the source."""
    other = [one.NAME for one in SOURCES.values() if one is not origin and one.find(raw)]
    if other:
        return f"; it holds a {other[0]} log: set dataset to {other[0]}"
    below = [path for path in sorted(raw.iterdir()) if path.is_dir() and origin.find(path)]
    if below:
        name = origin.find(below[0])[0].name
        return f"; {below[0].name}/ has one: give that directory, or all of them as '{raw}/*/{name}'"
    return "; give the file itself"


def _detect(origin: Source, path: Path) -> Layout:
    try:
        return origin.detect(path)
    except DataError as error:
        for other in SOURCES.values():
            if other is not origin and _is(other, path):
                raise DataError(f"{error} (this looks like {other.NAME}: set dataset to {other.NAME})") from None
        raise


def _is(other: Source, path: Path) -> bool:
    try:
        other.detect(path)
    except DataError:
        return False
    return True
