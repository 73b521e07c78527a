"""Raw log formats, one module each: its files, columns, codes and quirks. The name in the dict is the module's."""

from pathlib import Path
from typing import cast

from hmar.errors import DataError, SettingsError
from hmar.settings import nearest
from pipeline.sources import movielens, taobao
from pipeline.sources.base import Layout, RawFile, Reason, Source

__all__ = ["SOURCES", "Layout", "RawFile", "Reason", "Source", "delivery", "source"]

SOURCES: dict[str, Source] = {
    "movielens": cast(Source, movielens),
    "taobao": cast(Source, taobao),
}


def source(name: str) -> Source:
    """The source of that name.

    Raises:
        SettingsError: there is none; the nearest known one is named.
    """
    if name not in SOURCES:
        raise SettingsError(f"source: unknown raw format {name!r}{nearest(name, set(SOURCES))}")
    return SOURCES[name]


def delivery(origin: Source, raw: Path) -> list[RawFile]:
    """The files that ``raw`` stands for, by name, each with its layout.

    Args:
        raw: one file, which is taken as it is, or a directory, in which the source's own file names are looked for.

    Raises:
        DataError: nothing there, nothing in it, or not of this source (the source it looks like is named).
    """
    if raw.is_dir():
        paths = origin.find(raw)
        if not paths:
            other = [one.NAME for one in SOURCES.values() if one is not origin and one.find(raw)]
            raise DataError(
                f"{raw}: no file of this source in it ({origin.DESCRIPTION})"
                + (f"; it holds a {other[0]} log: set dataset to {other[0]}" if other else "; give the file itself")
            )
        base = raw
    elif raw.is_file():
        paths, base = [raw], raw.parent
    else:
        raise DataError(f"{raw}: no such file or directory; give the file or directory of the raw log as raw")
    files = [RawFile(path, path.relative_to(base).as_posix(), _detect(origin, path)) for path in paths]
    return sorted(files, key=lambda file: file.name)


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
