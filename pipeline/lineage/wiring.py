"""Which statement fills which relation: what ``pipeline/ingest`` and ``pipeline/snapshot`` make of the files of sql/.

A relation that is not named here is filled by the statement of its name (``30_users`` fills ``users``).
"""

from functools import cache

from pipeline.lineage.graph import Graph
from pipeline.lineage.statements import Statement, read_all, statement

RAW: dict[str, tuple[str, ...]] = {
    "chunks": ("first_row", "text"),
    "rows": ("source_row",),
    "plain": ("source_row", "line"),
    "businesses": ("line",),
}
"""What is read from raw files."""

KNOWN: dict[str, tuple[str, ...]] = {
    "published_files": (
        "user_id", "item_id", "behavior", "event_time", "category_id", "value", "source_file", "source_row",
    ),
    "nothing": ("user_id", "item_id", "behavior", "event_time", "category_id", "value", "source_file", "source_row"),
    "known_users": ("user", "user_id"),
    "known_items": ("item", "item_id", "first_seen"),
}  # fmt: skip
"""What earlier runs left: published events (and their row of nulls), the vocabulary."""

ALTERNATIVES: dict[str, tuple[str, ...]] = {
    "piece": ("30_candidates",),
    "event_files": ("50_events",),
    "core_items": ("0_core_items", "21_core_items"),
    "kept": ("10_log", "22_core_log"),
    "events": ("0_events",),
    "hbi": ("42_hbi_packed", "43_hbi_counted"),
    "chosen": ("51_leave_one_out", "53_temporal"),
    "histories": ("60_histories", "55_published"),
    "training": ("61_leave_one_out_training", "62_temporal_training", "66_published_training"),
    "catalogs": ("64_catalogs", "67_whole_catalog"),
    "offers": ("72_candidates",),
}
"""Relations that more than one statement can fill, or one of another name."""

WRITTEN: dict[str, str] = {
    "core_items": "select distinct item_id from log",
    "events": """
        select user, item, behavior, event_time,
            row_number() over (order by user, event_time, behavior, tie, item) - 1 as event,
            hbi_0 + hbi_1 + hbi_2 + hbi_3 + hbi_4 + hbi_5 + hbi_6 + hbi_7 as met,
            hbi_0 + hbi_1 + hbi_2 + hbi_3 + hbi_4 + hbi_5 + hbi_6 + hbi_7 as used_up
        from hbi
    """,
}
"""Relations that are made in code, as ``pipeline/snapshot/events.py`` makes them."""

FILES: dict[str, tuple[str, tuple[str, ...]]] = {
    "users.parquet": ("users", ("user", "user_id", "first_seen", "events")),
    "items.parquet": ("items", ("item", "item_id", "category_id", "first_seen", "events")),
    "events.parquet": ("hbi", ("user", "item", "behavior", "event_time", "hbi_0")),
    "splits/*/targets.parquet": (
        "targets",
        (
            "target", "part", "user", "item", "event", "event_time", "history_end", "catalog", "repeat", "cold_user",
            "cold_item",
        ),
    ),
    "splits/*/train_end.npy": ("training", ("train_end",)),
    "splits/*/candidates.parquet": ("offers", ("target", "candidate")),
}  # fmt: skip
"""Files of a snapshot: the relation they are written from, and its columns."""


def graph(parsed: tuple[str, ...]) -> Graph:
    """The statements as they are wired for one raw format.

    Args:
        parsed: names of the statements that read its raw rows.
    """
    return Graph((*read_all(), *_written()), {**ALTERNATIVES, "parsed": parsed}, {**RAW, **KNOWN})


@cache
def _written() -> tuple[Statement, ...]:
    return tuple(statement("pipeline/snapshot/events.py", f"0_{name}", text) for name, text in WRITTEN.items())
