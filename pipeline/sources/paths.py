"""The files that a raw path stands for: itself, what a directory holds, or what a pattern matches."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from hmar.errors import DataError

COMPRESSED = (".gz", ".zst")
_MAGIC = frozenset("*?[")


class Matched(NamedTuple):
    """What a pattern matches: the files, and the directory that their names are relative to."""

    base: Path
    paths: list[Path]


def is_pattern(raw: Path) -> bool:
    """Whether ``raw`` is a pattern rather than a path; what exists under this very name is none."""
    return not raw.exists() and any(_MAGIC & set(part) for part in raw.parts)


def matched(raw: Path) -> Matched:
    """The files that a pattern matches: ``*``, ``?`` and ``[...]`` within a name, ``**`` for directories at any depth.

    The base is the pattern without its parts from the first wildcard on. Names that begin with a dot or an underscore
    are only matched by patterns that begin so, too.

    Raises:
        DataError: none matches, or one is there both plain and compressed.
    """
    parts = raw.parts
    first = next(place for place, part in enumerate(parts) if _MAGIC & set(part))
    base = Path(*parts[:first])
    wanted = hidden(Path(*parts[first:]))
    found = {path for path in base.glob("/".join(parts[first:])) if path.is_file()} if base.is_dir() else set()
    paths = sorted(path for path in found if wanted or not hidden(path.relative_to(base)))
    if not paths:
        raise DataError(
            f"raw: {raw} matches no file"
            + (f" in {base.absolute()}" if base.is_dir() else f"; {base.absolute()} is no directory")
            + "; correct the pattern or wait for the delivery"
        )
    refuse_twice(base, paths)
    return Matched(base, paths)


def hidden(path: Path) -> bool:
    """Whether a part of a relative path begins with a dot or an underscore: no data, but somebody's notes."""
    return any(part.startswith((".", "_")) for part in path.parts)


def uncompressed(name: str) -> str:
    """A file's name without .gz or .zst."""
    for suffix in COMPRESSED:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def refuse_twice(base: Path, paths: list[Path]) -> None:
    """Refuse a log that is there both plain and compressed: every row of it would be there twice.

    Raises:
        DataError: names the files.
    """
    names = Counter(path.with_name(uncompressed(path.name)) for path in paths)
    for plain, count in names.items():
        if count > 1:
            both = [
                path.relative_to(base).as_posix() for path in paths if path.with_name(uncompressed(path.name)) == plain
            ]
            raise DataError(f"{base}: holds both {' and '.join(sorted(both))}; remove one, or give the file itself")
