"""One's own log in about ten lines of YAML: which column is what, which code is which behavior, how times are written.

Imported when Airflow parses the DAGs: keep it light. The columns are found in the files by ``pipeline.sources.table``.
"""

import math
import re
from collections.abc import Mapping
from functools import cache, cached_property
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import BeforeValidator, ConfigDict, WithJsonSchema, field_validator, model_validator

from hmar.settings import Section, nearest

Kind = Literal["string", "int64"]
Unit = Literal["seconds", "milliseconds", "microseconds", "iso8601", "date"]
Format = Literal["csv", "tsv", "jsonl", "parquet"]

ELSE = "else"
NULLS = ("", "NULL", "null", "\\N", "None", "nan", "NaN")

_DIRECTIVES = (*"YymdHIMSfgnpzjbBaAcxX", "-d", "-m", "-y", "-H", "-I", "-M", "-S", "-j")
"""What DuckDB's strptime knows and what says a moment."""
_COMPARISON = re.compile(r"(<=|<|>=|>)\s*(-?\d+(?:\.\d+)?)")
_NAME = re.compile(r"\w[\w-]*")


def _also(*short: dict[str, Any]) -> Any:
    """JSON schema of a section that may be written shorter, too: Airflow checks the trigger form against it."""

    def widen(schema: dict[str, Any]) -> None:
        whole = dict(schema)
        schema.clear()
        schema.update({"anyOf": [*short, whole]})

    return widen


def _column_name(given: Any) -> Any:
    """Columns of files without a header may be given by number."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


Column = Annotated[str, BeforeValidator(_column_name), WithJsonSchema({"type": ["string", "integer"]})]


class TimeColumn(Section):
    """Where times stand and how they are written; the column's name alone means seconds since 1970."""

    model_config = ConfigDict(json_schema_extra=_also({"type": ["string", "integer"]}))

    column: Column
    unit: Unit | None = None
    """seconds, milliseconds or microseconds since 1970, iso8601, or date (YYYY-MM-DD). Seconds if neither unit nor
    format is given; a Parquet timestamp or date needs none."""
    format: str | None = None
    """How times are written, as for strptime: "%d.%m.%Y %H:%M"."""
    zone: str = "UTC"
    """IANA zone of local times, for example Europe/Berlin; times with an offset of their own do not use it."""
    ambiguous: Literal["quarantine", "earlier", "later"] = "quarantine"
    """A local time that comes twice when daylight saving ends: rejected, or taken as the earlier or later moment."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, given: Any) -> Any:
        return {"column": given} if isinstance(given, str | int) else given

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        if zone != "UTC" and zone not in (known := _zones()):
            close = nearest(zone, known)
            raise ValueError("unknown zone" + (close if "did you mean" in close else "; give an IANA name"))
        return zone

    @field_validator("format")
    @classmethod
    def _whole_format(cls, written: str | None) -> str | None:
        if written is None:
            return written
        found = set(re.findall(r"%(-?.?)", written.replace("%%", "")))
        if unknown := sorted(found - set(_DIRECTIVES) - {"Z"}):
            raise ValueError(f"unknown directive %{unknown[0]}; known: {' '.join('%' + one for one in _DIRECTIVES)}")
        if "Z" in found:
            raise ValueError("%Z: abbreviations such as CST mean several zones; use %z, or zone for local times")
        if not found & {"Y", "y", "-y", "c", "x"}:
            raise ValueError("has no year: use directives such as %Y-%m-%d %H:%M:%S")
        return written

    @model_validator(mode="after")
    def _consistent(self) -> "TimeColumn":
        if self.unit and self.format:
            raise ValueError("unit and format exclude each other; keep format for times written in a way of their own")
        if self.unit in ("seconds", "milliseconds", "microseconds") and self.zone != "UTC":
            raise ValueError(f"zone: {self.unit} since 1970 have no zone; leave it out")
        return self

    @property
    def coarse(self) -> bool:
        """Whether the clock has no seconds, so that equal rows may be separate events."""
        return self.unit == "date" or bool(self.format and not re.search(r"%-?[ScXfgn]", self.format))


class Behavior(Section):
    """A behavior and what stands in the log for it; the name alone stands for itself."""

    model_config = ConfigDict(
        json_schema_extra=_also(
            {"type": "string"},
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": {"type": ["string", "integer", "array"]},
            },
        )
    )

    name: str
    codes: tuple[str, ...]
    """Its codes in the log, or one comparison: "<= 2", "< 4", else."""

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, given: Any) -> Any:
        if isinstance(given, str | int | bool):
            return {"name": given, "codes": [given]}
        if isinstance(given, Mapping) and len(given) == 1:
            ((name, codes),) = given.items()
            return {"name": name, "codes": codes if isinstance(codes, list | tuple) else [codes]}
        return given

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError("a behavior's name is letters, digits, '_' and '-'; write 'name: code' for another code")
        return name

    @field_validator("codes", mode="before")
    @classmethod
    def _texts(cls, codes: Any) -> Any:
        if not isinstance(codes, list | tuple):
            return codes
        for code in codes:
            if isinstance(code, bool | float) or code is None:
                raise ValueError(f"YAML reads this code as {code!r}; write it in quotes, as it stands in the log")
        if not codes:
            raise ValueError("give at least one code")
        return tuple(str(code) for code in codes)

    @property
    def comparison(self) -> tuple[str, float] | None:
        """Operator and number, if its one code is a comparison."""
        match = _COMPARISON.fullmatch(self.codes[0]) if len(self.codes) == 1 else None
        return (match[1], float(match[2])) if match else None


class Ids(Section):
    """How ids are kept. One word, string or int64, means all of them."""

    model_config = ConfigDict(json_schema_extra=_also({"enum": ["string", "int64"]}))

    user: Kind = "string"
    item: Kind = "string"
    category: Kind = "string"

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, given: Any) -> Any:
        return dict.fromkeys(("user", "item", "category"), given) if isinstance(given, str) else given


class TableSettings(Section):
    """One's own log (dataset: table): its columns, behaviors and times."""

    user: Column
    """Column of the user id; in JSON lines a dotted key; in files without a header a name or number of ``columns``."""
    item: Column
    """Column of the item id."""
    time: TimeColumn
    """Column of the time, or a section: column, unit or format, zone, ambiguous."""
    behavior: Column | None = None
    """Column of the behavior; left out where every row is the same behavior."""
    behaviors: tuple[Behavior, ...]
    """In funnel order, weakest first: a name, or name: code, name: [codes], or name: "<= 2" for a number column."""
    target: str = ""
    """The behavior to predict; the last one if empty."""
    category: Column | None = None
    """Column of the item's category."""
    value: Column | None = None
    """Column of a number to keep with the event, a price or a rating; the behavior's own number if that is compared."""
    repeats: bool = True
    """Whether items recur (shops). If not, items that a user has consumed are never candidates again."""
    consumed_by: tuple[str, ...] = ()
    """Where items do not recur: the behaviors that use an item up; if empty the target, or all where numbers are
    compared."""
    ids: Ids = Ids()
    """string (default), int64, or a section: user, item, category. Declared, never guessed: a guess could change
    from one night to the next."""
    scale: tuple[float, float] | None = None
    """Lowest and highest number that is compared; others are quarantined."""
    format: Format | None = None
    """csv, tsv, jsonl or parquet; by the file's suffix if left out."""
    columns: int | tuple[str, ...] | None = None
    """For CSV and TSV without a header: the columns' names from left to right, or how many there are; they are
    1, 2, ... then."""
    separator: str | None = None
    """Between columns; a comma in CSV, a tab in TSV if left out."""
    quoted: bool = True
    """Whether double quotes around a value belong to the format, as CSV has them. If not, they are text."""
    nulls: tuple[str, ...] = NULLS
    """What stands in CSV and TSV for a missing value."""
    files: str | None = None
    """Files to take where raw is a directory, for example "*.csv.gz"; by their suffix if left out."""

    @field_validator("columns")
    @classmethod
    def _columns_once(cls, columns: int | tuple[str, ...] | None) -> int | tuple[str, ...] | None:
        if isinstance(columns, int) and columns < 3:
            raise ValueError("a log has at least three columns: user, item and time")
        if isinstance(columns, tuple):
            for name in columns:
                if columns.count(name) > 1:
                    raise ValueError(f"the name {name!r} stands twice")
        return columns

    @field_validator("separator")
    @classmethod
    def _one_character(cls, separator: str | None) -> str | None:
        if separator is not None and (len(separator) != 1 or separator in '"\r\n' or not separator.isascii()):
            raise ValueError('is one ASCII character, other than a double quote or a line end; a tab is "\\t"')
        return separator

    @model_validator(mode="after")
    def _consistent(self) -> "TableSettings":
        self._check_columns()
        self._check_behaviors()
        for key, names in (("target", (self.target,) if self.target else ()), ("consumed_by", self.consumed_by)):
            for name in names:
                if name not in self.names:
                    raise ValueError(f"{key}: unknown behavior {name!r}{nearest(name, list(self.names))}")
        if self.repeats and self.consumed_by:
            raise ValueError("consumed_by: only where items do not recur; set repeats to false")
        return self

    def _check_columns(self) -> None:
        if self.columns is not None and self.format in ("jsonl", "parquet"):
            raise ValueError(f"columns: {self.format} names its own; leave it out")
        if self.separator is not None and self.format in ("jsonl", "parquet"):
            raise ValueError(f"separator: {self.format} has none; leave it out")
        taken: dict[str, str] = {}
        for key, column in self.mapped.items():
            if self.headerless and column not in self.headerless:
                raise ValueError(f"{key}: no column {column!r} in columns{nearest(column, list(self.headerless))}")
            if column in taken and {key, taken[column]} != {"behavior", "value"}:
                raise ValueError(f"{key}: column {column!r} is {taken[column]} already")
            taken[column] = key

    def _check_behaviors(self) -> None:
        if not self.behaviors:
            raise ValueError("behaviors: name at least one")
        if len(set(self.names)) != len(self.names):
            raise ValueError("behaviors: a name stands twice")
        if self.behavior is None:
            only = self.behaviors[0]
            if len(self.behaviors) > 1 or only.codes != (only.name,):
                raise ValueError("behavior: name its column; only a log of one behavior (behaviors: [buy]) has none")
            return
        if any(one.comparison for one in self.behaviors):
            self._check_comparisons()
            return
        if self.scale is not None:
            raise ValueError('scale: only where behaviors are comparisons such as "<= 2"')
        codes: dict[str, str] = {}
        for one in self.behaviors:
            for code in one.codes:
                if code in codes:
                    raise ValueError(f"behaviors: code {code!r} means both {codes[code]} and {one.name}")
                codes[code] = one.name

    def _check_comparisons(self) -> None:
        *first, last = self.behaviors
        found = [one.comparison for one in first]
        if last.codes != (ELSE,):
            found.append(last.comparison)
        compared = [comparison for comparison in found if comparison]
        if len(compared) < len(found):
            raise ValueError('behaviors: either codes or comparisons ("<= 2", "< 4"), of which the last may be else')
        rising = compared[0][0].startswith("<")
        if any(operator.startswith("<") != rising for operator, _ in compared):
            raise ValueError(
                "behaviors: all comparisons with < and <=, or all with > and >=; the first that holds counts"
            )
        bounds = [_bound(operator, number) for operator, number in compared]
        if sorted(set(bounds), reverse=not rising) != bounds:
            raise ValueError(f"behaviors: the numbers must {'rise' if rising else 'fall'}, the first that holds counts")
        if self.scale is not None and self.scale[0] >= self.scale[1]:
            raise ValueError("scale: the lowest number first, then the highest")

    @property
    def names(self) -> tuple[str, ...]:
        """The behaviors in funnel order."""
        return tuple(one.name for one in self.behaviors)

    @cached_property
    def mapped(self) -> dict[str, str]:
        """Column by what it is: user, item, behavior, time, category, value; only those that the log has."""
        found = {
            "user": self.user,
            "item": self.item,
            "behavior": self.behavior,
            "time": self.time.column,
            "category": self.category,
            "value": self.value or (self.behavior if self.bounds[0] else None),
        }
        return {key: column for key, column in found.items() if column is not None}

    @property
    def headerless(self) -> tuple[str, ...]:
        """The columns' names in files without a header; empty if files have one."""
        if isinstance(self.columns, int):
            return tuple(str(number) for number in range(1, self.columns + 1))
        return self.columns or ()

    @cached_property
    def bounds(self) -> tuple[tuple[float, ...], tuple[str | None, ...]]:
        """Where numbers are compared: rising bounds and the behavior below the first, from the first on, from the
        second on, ...; None is no behavior. Empty where codes are."""
        compared = [(one.name, one.comparison) for one in self.behaviors]
        found = [(name, _bound(*comparison)) for name, comparison in compared if comparison]
        if self.behavior is None or not found:
            return (), ()
        rest = self.behaviors[-1].name if self.behaviors[-1].codes == (ELSE,) else None
        names: list[str | None] = [*(name for name, _ in found), rest]
        numbers = [number for _, number in found]
        if self.behaviors[0].codes[0].startswith(">"):
            return tuple(reversed(numbers)), tuple(reversed(names))
        return tuple(numbers), tuple(names)

    @property
    def codes(self) -> dict[str, str]:
        """Behavior by code; empty where numbers are compared or every row is the same behavior."""
        if self.behavior is None or self.bounds[0]:
            return {}
        return {code: one.name for one in self.behaviors for code in one.codes}

    @property
    def reading(self) -> dict[str, Any]:
        """What decides which events a file becomes, whatever is done with them; plain values."""
        return self.model_dump(mode="json", exclude={"target", "repeats", "consumed_by", "files"})

    @property
    def derived(self) -> dict[str, Any]:
        """What other sections follow from this one, as a weak layer of settings."""
        consumed = self.consumed_by or (self.names if self.bounds[0] else (self.target or self.names[-1],))
        return {
            "snapshot": {
                "behaviors": list(self.names),
                "target": self.target or self.names[-1],
                "repeats": self.repeats,
                "consumed_by": [] if self.repeats else list(consumed),
            },
            "ingest": {"identical_rows": "event" if self.time.coarse else "duplicate"},
        }


@cache
def _zones() -> set[str]:
    return available_timezones()


def _bound(operator: str, number: float) -> float:
    """The number from which on the comparison changes its answer."""
    return math.nextafter(number, math.inf) if operator in ("<=", ">") else number
