"""One's own log as CSV, TSV, JSON lines or Parquet; the settings say which column is what.

Columns are found by name, in every file anew: where they stand may change, what they are called may not. Before a file
is read its first rows go through the same statements as all rows will; a file most of whose rows would be rejected is
refused, and the message says which setting does not fit it.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hmar.errors import DataError
from pipeline.ingest.lines import sample
from pipeline.sources import table_columns
from pipeline.sources.base import Column, Layout, Plain, PlainKind
from pipeline.sources.paths import hidden, refuse_twice, uncompressed
from pipeline.sources.table_sample import Sampler
from pipeline.storage.events_store import IdType
from pipeline.table_settings import Format, TableSettings

NAME = "table"

SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}

_SCALES = {"seconds": 1_000_000, "milliseconds": 1_000, "microseconds": 1}


class TableSource:
    """A source made from settings; a :class:`pipeline.sources.base.Source`."""

    NAME = NAME
    DESCRIPTION = "one's own log: CSV, TSV, JSON lines or Parquet, with the columns that settings name under table"

    def __init__(self, table: TableSettings) -> None:
        self.table = table
        self.BEHAVIORS: tuple[str, ...] = table.names
        self.USER_ID_TYPE: IdType = table.ids.user
        self.ITEM_ID_TYPE: IdType = table.ids.item
        self.CATEGORY_ID_TYPE: IdType = table.ids.category

    def find(self, directory: Path) -> list[Path]:
        """The files under a directory, at any depth, that match ``table.files`` or have a suffix of ``table.format``.

        Names that begin with a dot or an underscore, and files in directories of such names, are left out.

        Raises:
            DataError: one is there both plain and compressed.
        """
        found = sorted(path for path in directory.rglob("*") if path.is_file())
        paths = [path for path in found if not hidden(path.relative_to(directory)) and self._wanted(path)]
        refuse_twice(directory, paths)
        return paths

    def detect(self, path: Path) -> Layout:
        """The layout of one file: where its columns are.

        Raises:
            DataError: a mapped column is missing or there twice, or most of the first rows would be rejected.
        """
        kind = self.format_of(path)
        if kind == "parquet":
            layout = self._parquet(path)
        elif kind == "jsonl":
            layout = self._json(path)
        else:
            layout = self._delimited(path, kind)
        self._sampler.check(path, layout)
        return layout

    def format_of(self, path: Path) -> Format:
        """``table.format``, or what the suffix says.

        Raises:
            DataError: the suffix says nothing.
        """
        if self.table.format is not None:
            return self.table.format
        suffix = Path(uncompressed(path.name)).suffix.lower()
        if suffix not in SUFFIXES:
            raise DataError(
                f"{path}: its name does not tell its format; set table.format to csv, tsv, jsonl or parquet "
                f"(known by suffix: {', '.join(SUFFIXES)}, also with .gz or .zst)"
            )
        return SUFFIXES[suffix]

    def behavior_code(self, line: str, layout: str = "") -> str:
        """Its code, or the whole line where that is not to be found.

        Args:
            line: may be cut off at its end.
            layout: name of the file's layout, which lists its columns if it has a header.
        """
        column = self.table.behavior
        if column is None:
            return line
        if line.startswith("{"):
            return table_columns.json_value(line, column) or line
        kind, _, listed = layout.removesuffix(")").partition(" (")
        separator = self.table.separator or ("\t" if kind == "TSV" or (not kind and "\t" in line) else ",")
        names = self.table.headerless or tuple(listed.split(", "))
        cells = table_columns.cells(line, self.table, separator)
        place = names.index(column) if column in names else len(cells)
        whole = len(cells) == len(names) or place + 1 < len(cells) < len(names)
        return cells[place] if whole and place < len(cells) else line

    @cached_property
    def _sampler(self) -> Sampler:
        return Sampler(self.table)

    def _wanted(self, path: Path) -> bool:
        if self.table.files is not None:
            return path.match(self.table.files)
        kind = SUFFIXES.get(Path(uncompressed(path.name)).suffix.lower())
        return kind is not None and kind == (self.table.format or kind)

    def _delimited(self, path: Path, kind: Format) -> Layout:
        table = self.table
        separator = table.separator or {"csv": ",", "tsv": "\t"}[kind]
        lines = sample(path)
        table_columns.refuse_separator(path, lines, table, separator)
        names = table.headerless or table_columns.header(path, lines, table, separator)
        places = table_columns.places(path, names, table)
        if table.headerless:
            table_columns.refuse_header(path, lines, table, separator, places)
        escaped = re.escape(separator)
        layout = self._layout(
            f"{kind.upper()} ({', '.join(names)})",
            "ingest/20_table_delimited",
            {
                "separator": separator,
                "columns": len(names),
                "quoted": table.quoted,
                "quoted_column": f'(?:"(?:[^"]|"")*"|[^"{escaped}][^{escaped}]*|){escaped}',
                "nulls": list(table.nulls),
                **places,
            },
        )
        header = () if table.headerless else names
        return replace(layout, separator=separator, header=header, plain=self._plain(names, separator))

    def _plain(self, header: tuple[str, ...], separator: str) -> Plain | None:
        """The fast way for logs of integers and codes; None where a text has to be looked into."""
        table, mapped = self.table, self.table.mapped
        ids = {getattr(table.ids, key) for key in ("user", "item", "category") if key in mapped}
        texts = "".join(table.codes)
        if (
            ids != {"int64"}
            or "value" in mapped
            or table.bounds[0]
            or table.time.format
            or (table.time.unit or "seconds") not in _SCALES
            or any(null.isdigit() for null in table.nulls)
            or not (texts.isascii() and (texts + "x").isprintable())
            or {'"', separator} & set(texts)
        ):
            return None
        names = {"user": "user_id", "item": "item_id", "category": "category_id", "time": "clock"}
        kinds: dict[str, PlainKind] = {}
        for number, column in enumerate(header):
            key = next((key for key, one in mapped.items() if one == column), None)
            if key == "behavior":
                kinds["behavior"] = tuple(table.codes)
            elif key is None:
                kinds[f"other_{number}"] = "text"
            else:
                kinds[names[key]] = "integer"
        return Plain("ingest/22_table_plain", kinds)

    def _json(self, path: Path) -> Layout:
        table_columns.refuse_json(path, sample(path), self.table)
        mapped = self.table.mapped
        layout = self._layout(
            "JSON lines",
            "ingest/20_table_json",
            {
                "paths": [table_columns.json_path(column) for column in mapped.values()],
                **{key: place for place, key in enumerate(mapped, start=1)},
            },
        )
        return replace(layout, format="json")

    def _parquet(self, path: Path) -> Layout:
        types = table_columns.parquet_types(path)
        table_columns.refuse_parquet(path, types, self.table)
        unit = table_columns.parquet_unit(types[self.table.time.column])
        layout = self._layout(
            f"Parquet ({', '.join(types)})",
            "ingest/20_table_parquet",
            {**self.table.mapped, **self._written(unit)},
        )
        return replace(layout, format="parquet")

    def _layout(self, name: str, fields: str, variables: Mapping[str, Any]) -> Layout:
        """``fields``: the statement that gives the fields as texts; ``variables``: what it and the next one read."""
        table, time = self.table, self.table.time
        bounds, compared = table.bounds
        lowest, highest = table.scale or (None, None)
        common = {
            "behavior": None,
            "category": None,
            "value": None,
            "user_type": table.ids.user,
            "item_type": table.ids.item,
            "category_type": table.ids.category,
            "rule": "numbers" if bounds else "codes" if table.codes else "constant",
            "codes": list(table.codes),
            "behaviors": list(compared) if bounds else list(table.codes.values()) or list(table.names),
            "bounds": list(bounds),
            "lowest": lowest,
            "highest": highest,
            "zone": time.zone,
            "ambiguous": time.ambiguous,
            **self._written(None),
        }
        return Layout(
            name=name,
            statement="ingest/21_table",
            columns=tuple(Column(column, ".*", "text") for column in table.mapped.values()),
            before=(("fields", fields),),
            variables={f"table_{key}": value for key, value in {**common, **variables}.items()},
        )

    def _written(self, unit: str | None) -> dict[str, Any]:
        """How times are written: ``unit``, if the column's type says so, or what the settings say."""
        time = self.table.time
        unit = unit or time.unit or ("format" if time.format else "seconds")
        return {"unit": unit, "scale_us": _SCALES.get(unit), "time_format": time.format if unit == "format" else None}
