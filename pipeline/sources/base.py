"""What a raw log format is to this house, and how a file that is not of that format is refused."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

from hmar.errors import DataError
from pipeline.ingest.lines import sample
from pipeline.sources.paths import COMPRESSED, refuse_twice
from pipeline.storage.events_store import IdType


class Reason(StrEnum):
    """Why a raw row is quarantined. The statements in ``sql/ingest`` use the same words."""

    MISSING_COLUMNS = "missing_columns"
    EXTRA_COLUMNS = "extra_columns"
    CUT_LINE = "cut_line"
    """The file's last line has no line end and is not a whole row: the copy was interrupted."""
    INVALID_UTF8 = "invalid_utf8"
    BAD_QUOTES = "bad_quotes"
    """A quoted value that does not end on its line, or text after the closing quote."""
    BAD_JSON = "bad_json"
    """A line that is not one JSON object."""
    MISSING_KEY = "missing_key"
    BAD_USER_ID = "bad_user_id"
    BAD_ITEM_ID = "bad_item_id"
    BAD_CATEGORY_ID = "bad_category_id"
    NEGATIVE_ID = "negative_id"
    ID_OVERFLOW = "id_overflow"
    """An id that does not fit 64 bits."""
    UNKNOWN_BEHAVIOR = "unknown_behavior"
    BAD_FLAG = "bad_flag"
    """A flag that is neither 0 nor 1."""
    BAD_RATING = "bad_rating"
    RATING_OFF_SCALE = "rating_off_scale"
    BAD_VALUE = "bad_value"
    BAD_TIMESTAMP = "bad_timestamp"
    TIMESTAMP_IN_SECONDS = "timestamp_in_seconds"
    TIMESTAMP_IN_MILLISECONDS = "timestamp_in_milliseconds"
    TIMESTAMP_OUT_OF_RANGE = "timestamp_out_of_range"
    """A number of seconds that ends after the year 2099."""
    NONEXISTENT_LOCAL_TIME = "nonexistent_local_time"
    """A local time that the clocks skipped when daylight saving began."""
    AMBIGUOUS_LOCAL_TIME = "ambiguous_local_time"
    """A local time that came twice when daylight saving ended."""
    OUTSIDE_WINDOW = "outside_window"
    """Before ``ingest.since`` or not before ``ingest.until``."""


@dataclass(frozen=True)
class Column:
    """One column of a raw line: its name, what a value looks like, and that in words."""

    name: str
    pattern: str
    expected: str


USER = Column("user", r"-?\d+", "an integer id")
ITEM = Column("item", r"-?\d+", "an integer id")
SECONDS = Column("timestamp", r"-?\d+", "whole seconds since 1970")


PlainKind = Literal["integer", "text"] | tuple[str, ...]
"""integer: ASCII digits that fit 64 bits; text: printable ASCII without quotes, may be empty; a tuple: one of its
words."""


@dataclass(frozen=True)
class Plain:
    """How lines that are beyond doubt are read fast: converted by column in bulk, a hundred thousand at a time.

    A line is plain if it has exactly these columns, each of its kind; every other line goes through the layout's own
    statement. The statement here turns the view ``plain`` (source_row; line, to be passed on; the columns as BIGINT,
    VARCHAR and VARCHAR) into the same columns as the layout's own one, with equal values and faults for plain lines.
    """

    statement: str
    columns: Mapping[str, PlainKind]
    """Every column of a line, in its order."""


@dataclass(frozen=True)
class Layout:
    """How the lines of one kind of file are read."""

    name: str
    """Of the kind of file, for people and for the manifest."""
    statement: str
    """The statement in ``sql/ingest`` that turns its lines into typed rows with a reason for each rejected one."""
    columns: tuple[Column, ...]
    format: Literal["lines", "json", "parquet"] = "lines"
    """lines: the statement reads the view ``lines``; json: the same, each line one object; parquet: it reads ``rows``,
    the file's columns and source_row."""
    separator: str = ","
    header: tuple[str, ...] = ()
    """The first line, column by column; empty if the format has none."""
    open_ended: bool = False
    """Whether the last column but one is free text that may hold the separator."""
    before: tuple[tuple[str, str], ...] = ()
    """Views the statement reads, in the order they are made: name, and the statement in ``sql/ingest`` of each."""
    joined: Path | None = None
    """A file beside this one that the statement looks things up in: no log, but part of the delivery."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """What the statements read by ``getvariable``."""
    plain: Plain | None = None
    """The fast way for delimited lines whose separator is one character; None: every line takes the exact way."""

    def split(self, line: str) -> list[str]:
        """The columns of a line, free text in one piece."""
        parts = line.split(self.separator)
        if self.open_ended and len(parts) > len(self.columns):
            head = len(self.columns) - 2
            parts = [*parts[:head], self.separator.join(parts[head:-1]), parts[-1]]
        return parts

    @property
    def expected(self) -> str:
        return self.separator.replace("\t", "<tab>").join(self.header or [c.name for c in self.columns])


@dataclass(frozen=True)
class RawFile:
    """One file of a delivery."""

    path: Path
    name: str
    """Relative to the delivery, with '/' between directories."""
    layout: Layout


class Source(Protocol):
    """What a module of this package offers."""

    NAME: str
    DESCRIPTION: str
    """One line: what the format is called and how its rows look."""
    BEHAVIORS: tuple[str, ...]
    """Every behavior an event of this source can have."""
    USER_ID_TYPE: IdType
    ITEM_ID_TYPE: IdType
    CATEGORY_ID_TYPE: IdType

    def find(self, directory: Path) -> list[Path]:
        """The files of a delivery that is a directory; empty if none is there."""

    def detect(self, path: Path) -> Layout:
        """The layout of a file, by its content. Raises DataError if it is not of this source."""

    def behavior_code(self, line: str) -> str:
        """What stands in a raw line where the behavior should."""


def fit(path: Path, layout: Layout) -> Layout:
    """``layout``, if the head of the file is of it: single bad rows are left to the quarantine, a wrong file is not.

    Raises:
        DataError: names file, line, what was found, what was expected and what to do.
    """
    lines = sample(path)
    if layout.header:
        _check_header(path, lines, layout)
        lines = lines[1:]
        if not lines:
            raise DataError(f"{path}: a header and no rows; deliver the file again")
    else:
        number, first = lines[0]
        if not any(character.isdigit() for character in first):
            raise DataError(
                f"{path}, line {number}: found {shown(first)}, which reads like a header where {layout.name} has none; "
                f"check the order of the columns ({layout.expected}) and remove the line"
            )
    faults = [(number, fault) for number, line in lines if (fault := _fault(line, layout))]
    if len(faults) * 2 > len(lines):
        number, fault = faults[0]
        raise DataError(
            f"{path}, line {number}: {fault}; {layout.name} has the columns {layout.expected}; "
            f"give the right file, or the dataset whose format this is"
        )
    stamps = [layout.split(line)[-1].strip() for _, line in lines]
    milliseconds = [stamp for stamp in stamps if re.fullmatch(r"\d{12,14}", stamp)]
    if len(milliseconds) * 2 > len(lines):
        number = lines[stamps.index(milliseconds[0])][0]
        raise DataError(
            f"{path}, line {number}, column timestamp: {milliseconds[0]} looks like milliseconds; "
            f"{layout.name} has seconds since 1970; divide the column by 1000"
        )
    return layout


def _check_header(path: Path, lines: Sequence[tuple[int, str]], layout: Layout) -> None:
    number, first = lines[0]
    found = tuple(first.split(layout.separator))
    if found == layout.header:
        return
    if sorted(found) == sorted(layout.header):
        raise DataError(
            f"{path}, line {number}: the columns are in the order {','.join(found)}, "
            f"expected {','.join(layout.header)}; put them in the expected order, or values would be swapped"
        )
    if any(part.strip().isdigit() for part in found):
        raise DataError(
            f"{path}, line {number}: found {shown(first)}, expected the header {','.join(layout.header)}; "
            f"add the header so that the order of the columns is known"
        )
    unknown = [name for name in found if name not in layout.header]
    missing = [name for name in layout.header if name not in found]
    details = [
        *([f"unknown {', '.join(unknown)}"] if unknown else []),
        *([f"missing {', '.join(missing)}"] if missing else []),
    ]
    raise DataError(
        f"{path}, line {number}: the header is {shown(first)} ({'; '.join(details)}), "
        f"expected {','.join(layout.header)}; give the right file or rename the columns"
    )


def _fault(line: str, layout: Layout) -> str:
    """Why a line cannot be a row of this layout; empty if it can."""
    parts = layout.split(line)
    if len(parts) != len(layout.columns):
        return f"found {len(parts)} column(s) in {shown(line)}, expected {len(layout.columns)}"
    for position, (part, column) in enumerate(zip(parts, layout.columns, strict=True), start=1):
        if not re.fullmatch(column.pattern, part):
            return f"column {position} ({column.name}) is {shown(part)}, expected {column.expected}"
    return ""


def shown(text: str, width: int = 80) -> str:
    """Raw text for an error message: quoted, control characters escaped, shortened."""
    return repr(text if len(text) <= width else text[: width - 3] + "...")


def pick(directory: Path, names: Sequence[str]) -> list[Path]:
    """The files among ``names``, plain or with ``.gz`` or ``.zst`` added, that stand in ``directory``.

    Args:
        names: a name, or a pattern where a publisher ships parts: ``online_part?.csv``.

    Raises:
        DataError: one stands there twice, plain and compressed.
    """
    found = []
    for name in names:
        found += sorted(
            path for ending in ("", *COMPRESSED) for path in directory.glob(name + ending) if path.is_file()
        )
    refuse_twice(directory, found)
    return found
