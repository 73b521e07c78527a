"""Which statement fills which relation: what ``pipeline/ingest`` and ``pipeline/snapshot`` make of the files of sql/.

A relation that is not named here is filled by the statement of its name (``30_users`` fills ``users``).
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from textwrap import dedent
from typing import Literal

from pipeline.lineage.graph import Column, Graph
from pipeline.lineage.raw import RAW, keys, named
from pipeline.lineage.statements import Statement, read_all, statement
from pipeline.sources import SOURCES, Layout
from pipeline.sources import source as named_source
from pipeline.sources.base import Column as RawColumn
from pipeline.sources.base import Plain

EVENTS = "event_files"
"""The published events: what the ingest ends in and the snapshot begins with."""

_EVENT = (
    "user_id", "item_id", "behavior", "event_time", "category_id", "value", "source_file", "source_row",
)  # fmt: skip

EARLIER: dict[str, tuple[str, ...]] = {
    "published_files": _EVENT,
    "known_users": ("user", "user_id"),
    "known_items": ("item", "item_id", "first_seen"),
}
"""What earlier runs left: published events, and the vocabulary."""

INGEST: dict[str, tuple[str, ...]] = {
    "piece": ("0_piece",),
    "rejected_files": ("0_rejected",),
    "rejected": ("52_rejected",),
    "pooled": ("41_pooled", "0_pooled"),
    "ordered": ("50_events", "0_ordered"),
    EVENTS: ("0_event_files",),
    "events": ("0_event_files",),
}
SNAPSHOT: dict[str, tuple[str, ...]] = {
    "core_items": ("0_core_items", "21_core_items"),
    "kept": ("0_kept", "22_core_log"),
    "hbi": ("42_hbi_packed", "42_hbi_narrow", "43_hbi_counted"),
    "events": ("0_events",),
    "chosen": ("51_leave_one_out", "53_temporal"),
    "histories": ("60_histories", "56_published"),
    "training": ("61_leave_one_out_training", "62_temporal_training", "66_published_training"),
    "catalogs": ("64_catalogs", "67_whole_catalog"),
    "candidate_plan": ("70_candidate_plan", "73_short"),
    "offers": ("72_candidates",),
    "impression_offers": ("76_uniform_offers", "77_popular_offers"),
    "split_moments": ("80_leave_one_out_moments", "81_temporal_moments"),
}
"""Relations that more than one statement can fill, or one of another name."""

PLAIN = "pipeline/ingest/plain.py"
"""Gives plain lines column by column, as they stand there."""
_ROUTING = "pipeline/ingest/routing.py"
_ORDERING = "pipeline/ingest/ordering.py"
_IN_CODE: dict[str, dict[str, tuple[str, str]]] = {
    "ingest": {
        "piece": (_ROUTING, "select candidates.*, raw_files.source_file from candidates cross join raw_files"),
        "rejected": (_ROUTING, "select candidates.*, raw_files.source_file from candidates cross join raw_files"),
        "pooled": (_ORDERING, "select * from delivered"),
        "ordered": (
            _ORDERING,
            f"select {', '.join(_EVENT)} from piece union all by name select {', '.join(_EVENT)} from published_files",
        ),
        EVENTS: ("pipeline/ingest/event_files.py", f"select {', '.join(_EVENT)} from ordered"),
    },
    "snapshot": {
        "core_items": ("pipeline/snapshot/events.py", "select distinct item_id from log"),
        "kept": ("pipeline/snapshot/events.py", "select * from log"),
        "events": (
            "pipeline/snapshot/events.py",
            """
            select user, item, behavior, event_time,
                row_number() over (order by user, event_time, place) - 1 as event,
                hbi_0 + hbi_1 + hbi_2 + hbi_3 + hbi_4 + hbi_5 + hbi_6 + hbi_7 as met,
                hbi_0 + hbi_1 + hbi_2 + hbi_3 + hbi_4 + hbi_5 + hbi_6 + hbi_7 as used_up
            from hbi
            """,
        ),
    },
}
"""Relations that are made in code: folder -> relation -> the module, and what it comes to."""

FILES: dict[str, dict[str, Column]] = {
    "users.parquet": {name: Column("users", name) for name in ("user", "user_id", "first_seen", "events")},
    "items.parquet": {
        name: Column("items", name) for name in ("item", "item_id", "category_id", "first_seen", "events")
    },
    "events.parquet": {
        **{name: Column("hbi", name) for name in ("user", "item", "behavior", "event_time")},
        "hbi_<behavior>": Column("hbi", "hbi_0"),
    },
    "arrays/": {
        "offsets.npy": Column("offsets", "first_event"),
        "item.npy": Column("hbi", "item"),
        "behavior.npy": Column("hbi", "behavior"),
        "time.npy": Column("hbi", "event_time"),
        "hbi.npy": Column("hbi", "hbi_0"),
    },
    "splits/<split>/targets.parquet": {
        name: Column("targets", name)
        for name in (
            "target", "part", "user", "item", "event", "event_time", "history_end", "catalog", "repeat", "cold_user",
            "cold_item",
        )
    },
    "splits/<split>/train_end.npy": {"train_end": Column("training", "train_end")},
    "splits/<split>/candidates.parquet": {
        "target": Column("offers", "target"),
        "position": Column("offers", "rank"),
        "item": Column("offers", "candidate"),
    },
    **{
        f"{name}.parquet": {
            column: Column("impressions", column)
            for column in ("moment", "user", "event_time", "history_end", "item", "label", "sampled")
        }
        for name in ("impressions", "impressions-<task>")
    },
    **{
        f"splits/<split>/{name}.parquet": {column: Column("split_moments", column) for column in ("moment", "part")}
        for name in ("moments", "moments-<task>")
    },
}  # fmt: skip
"""Files of a snapshot: their columns, and what each is written from."""

TABLE = "table"
_PARSING = ("15_", "20_", "21_", "22_")
"""Statements of one source each: a graph has those of its layout."""
_MAPPED = tuple(
    RawColumn(key, ".*", f"the column that table.{key} names")
    for key in ("user", "item", "behavior", "time", "category", "value")
)
_PLAIN_TABLE: tuple[str, ...] = ("user_id", "item_id", "behavior", "clock", "category_id")


def sources() -> tuple[str, ...]:
    """Every raw format, one's own log among them."""
    return (*SOURCES, TABLE)


def layouts(source: str) -> tuple[Layout, ...]:
    """The kinds of logs that a source reads; of one's own log, one for each of the ways to read it.

    Raises:
        SettingsError: there is no such source.
    """
    if source == TABLE:
        return _TABLES
    found = [one for one in vars(named_source(source)).values() if isinstance(one, Layout)]
    beside = {name for one in found for _, name in one.before}
    return tuple(one for one in found if one.statement not in beside)


def id_types(source: str) -> Mapping[str, str]:
    """The types of the ids of a source's events in SQL; empty for one's own log, where settings say."""
    if source == TABLE:
        return {}
    of, sql = named_source(source), {"int64": "bigint", "string": "varchar"}
    kinds = {"user_id": of.USER_ID_TYPE, "item_id": of.ITEM_ID_TYPE, "category_id": of.CATEGORY_ID_TYPE}
    return {column: sql[kind] for column, kind in kinds.items()}


def ingest(layout: Layout) -> Graph:
    """The statements that make events of the raw lines of a layout; its raw columns are those of ``raw``."""
    return Graph(_ingest(layout), _ingest_fills(layout), _raw(layout))


def snapshot() -> Graph:
    """The statements that make a snapshot of published events, which are given."""
    return Graph(_snapshot(), SNAPSHOT, {**EARLIER, EVENTS: _EVENT})


def graph(layout: Layout) -> Graph:
    """Everything from the raw lines of a layout to a snapshot."""
    return Graph((*_ingest(layout), *_snapshot()), {**_ingest_fills(layout), **SNAPSHOT}, _raw(layout))


def parsing(layout: Layout) -> tuple[str, ...]:
    """The statements that make ``parsed`` of the raw lines of a layout, those first that others read."""
    plain = (layout.plain.statement,) if layout.plain else ()
    return tuple(Path(name).name for name in (*(name for _, name in layout.before), layout.statement, *plain))


def _ingest(layout: Layout) -> tuple[Statement, ...]:
    columns = [column.name for column in layout.columns]
    ours = parsing(layout)
    common = [one for one in read_all("ingest") if one.name in ours or not one.name.startswith(_PARSING)]
    plain = [_plain(layout)] if layout.plain else []
    return (*(named(one, columns, layout.variables) for one in common), *_in_code("ingest"), *plain)


def _ingest_fills(layout: Layout) -> dict[str, tuple[str, ...]]:
    made = {view: (Path(name).name,) for view, name in layout.before}
    plain = (Path(layout.plain.statement).name,) if layout.plain else ()
    return {**INGEST, **made, "parsed": (Path(layout.statement).name, *plain)}


def _raw(layout: Layout) -> dict[str, tuple[str, ...]]:
    beside = next((keys(one) for one in read_all("ingest") if "businesses" in one.reads), ())
    return {
        **EARLIER,
        RAW: tuple(column.name for column in layout.columns),
        "raw_files": ("source_file",),
        "chunks": ("first_row", "text"),
        "rows": ("source_row", "rows"),
        "businesses": ("line", *beside),
    }


def _plain(layout: Layout) -> Statement:
    assert layout.plain is not None
    columns = zip(layout.plain.columns, layout.columns, strict=False)
    chosen = "".join(f', {RAW}."{column.name}" as "{name}"' for name, column in columns)
    text = f"select chunks.first_row as source_row, chunks.text as line{chosen} from chunks cross join {RAW}"
    return statement(PLAIN, "0_plain", text)


@cache
def _snapshot() -> tuple[Statement, ...]:
    return (*read_all("snapshot"), *_in_code("snapshot"))


def _in_code(folder: str) -> tuple[Statement, ...]:
    return tuple(
        statement(module, f"0_{name}", dedent(text).strip()) for name, (module, text) in _IN_CODE[folder].items()
    )


def _table(name: str, fields: str, format: Literal["lines", "json", "parquet"], plain: Plain | None = None) -> Layout:
    return Layout(
        name=name,
        statement="ingest/21_table",
        columns=_MAPPED,
        format=format,
        before=(("fields", f"ingest/{fields}"),),
        variables={"table_quoted": False},
        plain=plain,
    )


_TABLES = (
    _table(
        "one's own log as CSV or TSV",
        "20_table_delimited",
        "lines",
        Plain("ingest/22_table_plain", dict.fromkeys(_PLAIN_TABLE, "integer")),
    ),
    _table("one's own log as JSON lines", "20_table_json", "json"),
    _table("one's own log as Parquet", "20_table_parquet", "parquet"),
)
