"""The first rows of a file, taken through the statements that all its rows will go through."""

from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hmar.errors import DataError
from hmar.settings import nearest
from pipeline.ingest.lines import SAMPLE_LINES, sample
from pipeline.sources.base import Layout, Reason, shown
from pipeline.storage.statements import statement
from pipeline.table_settings import TableSettings

if TYPE_CHECKING:
    import duckdb

EARLY_US = 315_532_800_000_000
"""1980, in microseconds since 1970: logs are younger, so earlier times are numbers of another unit."""


class Row(NamedTuple):
    """A sampled row: its reason, null if it is good, and its fields as texts."""

    number: int
    line: str
    reason: str | None
    time_us: int | None
    fields: dict[str, str | None]


class Sampler:
    """One in-memory database that samples file after file of a log."""

    def __init__(self, table: TableSettings) -> None:
        self.table = table

    def check(self, path: Path, layout: Layout) -> None:
        """Refuse a file most of whose first rows would be rejected.

        Raises:
            DataError: names the first such row, what was found in it and the setting to look at.
        """
        rows = self._rows(path, layout)
        bad = [row for row in rows if row.reason is not None]
        if len(bad) * 2 > len(rows):
            reason, _ = Counter(row.reason for row in bad).most_common(1)[0]
            first = next(row for row in bad if row.reason == reason)
            raise DataError(self._refusal(path, layout, first, [row for row in bad if row.reason == reason]))
        early = [row for row in rows if row.time_us is not None and row.time_us < EARLY_US]
        if len(early) * 2 > len(rows) and layout.variables["table_scale_us"]:
            text = early[0].fields["time"]
            raise DataError(
                f"{path}, {_place(layout)} {early[0].number}: table.time: {text} {layout.variables['table_unit']} "
                f"since 1970 is before 1980; set table.time.unit to what it is ({_unit_of(text or '')})"
            )

    @cached_property
    def _connection(self) -> "duckdb.DuckDBPyConnection":
        import duckdb

        connection = duckdb.connect(config={"threads": 1})
        connection.execute("set timezone = 'UTC'")
        connection.execute("pragma disable_optimizer")
        names = ", ".join(f"'{name}'" for name in self.table.names)
        connection.execute(f"create type behavior as enum ({names})")
        connection.execute(statement("ingest/00_faults"))
        connection.execute(statement("ingest/01_table"))
        return connection

    def _rows(self, path: Path, layout: Layout) -> list[Row]:
        import duckdb

        connection = self._connection
        for name, value in layout.variables.items():
            connection.execute(f"set variable {name} = ?", [value])
        if layout.format == "parquet":
            quoted = str(path).replace("'", "''")
            connection.execute(
                "create or replace view rows as select row_number() over () as source_row, * "
                f"from (select * from read_parquet('{quoted}') limit {SAMPLE_LINES})"
            )
        else:
            lines = sample(path)[1 if layout.header else 0 :]
            connection.execute(
                "create or replace table lines as select unnest(?::bigint[]) as source_row, unnest(?::text[]) as line",
                [[number for number, _ in lines], [line for _, line in lines]],
            )
        try:
            # Tables, not views: planning the statements takes longer than running them on so few rows.
            for view, name in layout.before:
                connection.execute(f"create or replace table {view} as {statement(name)}")
            found = connection.execute(
                "select source_row, f.line, p.fault, p.time_us, user_text, item_text, behavior_text, time_text, "
                f"category_text, value_text from fields f join ({statement(layout.statement)}) p using (source_row) "
                "order by source_row"
            ).fetchall()
        except duckdb.Error as error:
            raise DataError(f"{path}: {str(error).splitlines()[0]}; check the table section of the settings") from None
        keys = ("user", "item", "behavior", "time", "category", "value")
        return [
            Row(number, line, fault, time_us, dict(zip(keys, fields, strict=True)))
            for number, line, fault, time_us, *fields in found
        ]

    def _refusal(self, path: Path, layout: Layout, first: Row, same: list[Row]) -> str:
        where = f"{path}, {_place(layout)} {first.number}"
        known = layout.variables
        columns = self.table.mapped

        def field(key: str, expected: str) -> str:
            return f"{where}: table.{key}: column {columns[key]!r} is {_text(first.fields[key])}, expected {expected}"

        match first.reason:
            case Reason.MISSING_COLUMNS | Reason.EXTRA_COLUMNS:
                found = first.line.count(layout.separator) + 1
                hint = "correct table.columns" if not layout.header else "the header names another number of columns"
                return (
                    f"{where}: found {found} column(s) in {shown(first.line)}, expected {known['table_columns']}; "
                    f"{hint}, or set table.separator"
                )
            case Reason.BAD_USER_ID | Reason.NEGATIVE_ID | Reason.ID_OVERFLOW | Reason.BAD_ITEM_ID:
                key = "item" if first.reason == Reason.BAD_ITEM_ID else "user"
                return self._wrong_id(field, key, str(known[f"table_{key}_type"]))
            case Reason.BAD_CATEGORY_ID:
                return self._wrong_id(field, "category", str(known["table_category_type"]))
            case Reason.UNKNOWN_BEHAVIOR:
                codes = [code for code, _ in Counter(row.fields["behavior"] or "" for row in same).most_common(5)]
                return (
                    f"{where}: table.behaviors: no behavior has the code {_text(first.fields['behavior'])}"
                    f"{nearest(first.fields['behavior'] or '', list(known['table_codes']))}; codes found: "
                    f"{', '.join(shown(code) for code in codes)}; write them as 'name: [code, code]'"
                )
            case Reason.BAD_RATING | Reason.RATING_OFF_SCALE:
                return field("behavior", "a number" + (f" of {self.table.scale}" if self.table.scale else ""))
            case Reason.BAD_VALUE:
                return field("value", "a number")
            case Reason.NONEXISTENT_LOCAL_TIME | Reason.AMBIGUOUS_LOCAL_TIME:
                return (
                    f"{field('time', 'a local time that exists once')}; check table.time.zone ({known['table_zone']})"
                )
            case Reason.BAD_QUOTES:
                return (
                    f"{where}: found {shown(first.line)}, a quoted value that does not end on its line or goes on "
                    f"after the quote; set table.quoted to false if quotes are text; values with line ends are not read"
                )
            case Reason.INVALID_UTF8:
                return f"{where}: found {shown(first.line)}, which is not UTF-8; convert the file"
        expected = known["table_time_format"] or known["table_unit"]
        return (
            f"{field('time', f'a time as {expected}')}; set table.time.unit or table.time.format to what it is "
            f"({_unit_of(first.fields['time'] or '')})"
        )

    def _wrong_id(self, field: Callable[[str, str], str], key: str, kind: str) -> str:
        expected = "an integer from 0 to 2^63 - 1" if kind == "int64" else "a text without blanks around it"
        hint = f"; set table.ids to string, or table.ids.{key}" if kind == "int64" else "; is it the right column?"
        return field(key, expected) + hint


def _place(layout: Layout) -> str:
    return "row" if layout.format == "parquet" else "line"


def _text(text: str | None) -> str:
    return "missing" if text is None else shown(text)


def _unit_of(text: str) -> str:
    """What a time looks like, in the words of the settings."""
    whole = text.partition(".")[0]
    if whole.isdigit():
        guess = {10: "unit: seconds", 13: "unit: milliseconds", 16: "unit: microseconds", 8: 'format: "%Y%m%d"'}
        return "it looks like " + guess[len(whole)] if len(whole) in guess else "seconds, milliseconds or microseconds"
    if len(text) == 10 and text[4:5] == "-":
        return "it looks like unit: date"
    if text[:4].isdigit() and text[4:5] == "-" and ":" in text:
        return "it looks like unit: iso8601"
    return 'for example format: "%d.%m.%Y %H:%M:%S"'
