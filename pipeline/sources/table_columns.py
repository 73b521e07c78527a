"""Where the columns of one's own log stand in a file; what is missing, twice there or of a wrong type is refused."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hmar.errors import DataError
from hmar.settings import nearest
from pipeline.sources.base import shown
from pipeline.table_settings import TableSettings

Lines = Sequence[tuple[int, str]]

_SEPARATORS = (";", "\t", "|", ",")
_WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_IDS = (*_WHOLE, "VARCHAR", "UUID", "ENUM")
_TIMES = (*_WHOLE, "VARCHAR", "DOUBLE", "DATE", "TIMESTAMP")


def refuse_separator(path: Path, lines: Lines, table: TableSettings, separator: str) -> None:
    """Refuse a file whose first line is not split by ``separator`` but is by another common one.

    Raises:
        DataError: names the one that it looks separated by.
    """
    number, first = lines[0]
    if len(cells(first, table, separator)) > 1:
        return
    for other in _SEPARATORS:
        found = cells(first, table, other)
        if len(found) == len(table.headerless) if table.headerless else len(found) >= 3:
            named = "a tab" if other == "\t" else repr(other)
            raise DataError(
                f"{path}, line {number}: found {shown(first)}; the file looks separated by {named}: set table.separator"
            )


def header(path: Path, lines: Lines, table: TableSettings, separator: str) -> tuple[str, ...]:
    """The column names in the first line of a CSV or TSV file.

    Raises:
        DataError: the first line is blank or holds numbers where names should be, or there is no row below it.
    """
    number, first = lines[0]
    if number != 1:
        raise DataError(f"{path}, line 1: is blank; the header must be the first line, so remove the lines before it")
    names = tuple(cells(first, table, separator))
    if not set(table.mapped.values()) & set(names) and any(name.strip().lstrip("-").isdigit() for name in names):
        raise DataError(
            f"{path}, line 1: found {shown(first)}, expected a header with {', '.join(table.mapped.values())}; "
            f"a file without one needs its columns named in table.columns"
        )
    if len(lines) == 1:
        raise DataError(f"{path}: a header and no rows; deliver the file again")
    return names


def places(path: Path, names: Sequence[str], table: TableSettings) -> dict[str, int]:
    """Position, from 1, of each mapped column.

    Raises:
        DataError: one is not there, which names the nearest, or is there twice.
    """
    for key, column in table.mapped.items():
        _refuse_missing(path, key, column, names)
    return {key: names.index(column) + 1 for key, column in table.mapped.items()}


def refuse_header(path: Path, lines: Lines, table: TableSettings, separator: str, found: Mapping[str, int]) -> None:
    """Refuse a first line that names columns where the settings say that there is no header.

    Raises:
        DataError: it has no digit, or one of the settings' own names stands in its place.
    """
    number, first = lines[0]
    parts = cells(first, table, separator)
    own = [name for key, name in table.mapped.items() if parts[found[key] - 1 : found[key]] == [name]]
    if (own and not own[0].isdigit()) or not any(character.isdigit() for character in first):
        raise DataError(
            f"{path}, line {number}: found {shown(first)}, which reads like a header where table.columns says that "
            f"files have none; leave table.columns out to have columns found by name"
        )


def refuse_json(path: Path, lines: Lines, table: TableSettings) -> None:
    """Refuse a file whose first lines are not objects with the mapped keys, dotted where nested.

    Raises:
        DataError: most lines are no JSON objects, or most objects lack a mapped key.
    """
    parsed = [(number, line, _object(line)) for number, line in lines]
    objects = [(number, one) for number, _, one in parsed if one is not None]
    if len(objects) * 2 < len(lines):
        number, line = next((number, line) for number, line, one in parsed if one is None)
        raise DataError(
            f"{path}, line {number}: found {shown(line)}, expected one JSON object per line; "
            f"set table.format if this is another format, or write the file as JSON lines"
        )
    counts = Counter(key for _, one in objects for key in set(_leaves(one)))
    for key, column in table.mapped.items():
        needed = 1 if key in ("category", "value") else len(objects) / 2
        if counts[column] < needed:
            number = next(number for number, one in objects if column not in set(_leaves(one)))
            raise DataError(
                f"{path}, line {number}: table.{key}: no key {column!r}{nearest(column, list(counts))}; "
                f"correct the setting, or deliver the file with this key"
            )
    twice = next((number for number, line, _ in parsed if _repeated(line) & _heads(table)), None)
    if twice is not None:
        raise DataError(f"{path}, line {twice}: a mapped key stands twice in one object; deliver the file again")


def json_path(column: str) -> str:
    """The JSON path of a dotted key."""
    quoted = [json.dumps(part, ensure_ascii=False) for part in column.split(".")]
    return "$." + ".".join(quoted)


def json_value(line: str, column: str) -> str | None:
    """What stands under a dotted key, as text; None if it is not there."""
    found: Any = _object(line)
    for part in column.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return None if found is None else str(found)


def parquet_types(path: Path) -> dict[str, str]:
    """DuckDB type of each column of a Parquet file.

    Raises:
        DataError: the file is no Parquet, or it is damaged.
    """
    import duckdb

    try:
        with duckdb.connect(config={"threads": 1}) as connection:
            found = connection.execute("describe select * from read_parquet(?)", [str(path)]).fetchall()
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not readable as Parquet ({reason}); deliver it again or set table.format") from None
    return {str(row[0]): str(row[1]) for row in found}


def refuse_parquet(path: Path, types: Mapping[str, str], table: TableSettings) -> None:
    """Refuse a file in which a mapped column is missing or of a type that cannot be what it is mapped to.

    Raises:
        DataError: names the column and the type that was found.
    """
    for key, column in table.mapped.items():
        _refuse_missing(path, key, column, list(types))
        kind = types[column]
        if key in ("user", "item", "category") and not kind.startswith(_IDS):
            raise DataError(
                f"{path}: table.{key}: column {column!r} is {kind}; an id is a whole number or a text, write it as one"
            )
        if key == "time" and not kind.startswith(_TIMES):
            raise DataError(
                f"{path}: table.time: column {column!r} is {kind}; expected a timestamp, a date, a number or a text"
            )
        if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "BLOB")):
            raise DataError(f"{path}: table.{key}: column {column!r} is {kind}; expected a plain value")


def parquet_unit(kind: str) -> str | None:
    """The unit of a Parquet column that is a time by its type; None where numbers or texts need one from settings."""
    if kind.startswith("TIMESTAMP"):
        return "iso8601"
    return "date" if kind == "DATE" else None


def _refuse_missing(path: Path, key: str, column: str, names: Sequence[str]) -> None:
    if column not in names:
        raise DataError(
            f"{path}: table.{key}: no column {column!r}{nearest(column, list(names))}; its columns are "
            f"{shown(', '.join(names), 200)}; correct the setting, or deliver the file with this column"
        )
    if list(names).count(column) > 1:
        raise DataError(
            f"{path}: table.{key}: column {column!r} is there {list(names).count(column)} times, and only one can be "
            f"meant; rename the others"
        )


def cells(line: str, table: TableSettings, separator: str) -> list[str]:
    """The columns of a CSV or TSV line, without their quotes."""
    if not table.quoted:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator))


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _leaves(found: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in found.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def _heads(table: TableSettings) -> set[str]:
    return {column.split(".")[0] for column in table.mapped.values()}


def _repeated(line: str) -> set[str]:
    """Keys that stand twice in one object of a line."""
    found: set[str] = set()

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        counts = Counter(key for key, _ in pairs)
        found.update(key for key, count in counts.items() if count > 1)
        return dict(pairs)

    try:
        json.loads(line, object_pairs_hook=note)
    except ValueError:
        return set()
    return found
