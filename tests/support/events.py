"""Writes a published events store from a list of tuples, in the published format."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.results import Accounts, Published
from pipeline.storage.atomic import write_json
from pipeline.storage.events_store import MANIFEST, EventsManifest, IdType, Partition

Event = tuple[int | str, int | str, str, int | float]
"""user, item, behavior, seconds since ``EPOCH``."""

EPOCH = datetime(2020, 1, 1, tzinfo=UTC)


def moment(seconds: float) -> datetime:
    """The time of an event in a test's list."""
    return EPOCH + timedelta(microseconds=round(seconds * 1_000_000))


def publish_events(
    directory: Path,
    events: Sequence[Event],
    categories: dict[int | str, int] | None = None,
    parts: int = 1,
    dataset: str = "tiny",
) -> Published:
    """Publish ``events`` in ``directory``.

    Args:
        categories: item -> category_id, null where absent.
        parts: over how many files the events are spread, round robin in the given order.
    """
    partitions = []
    for number in range(parts):
        rows = list(events[number::parts])
        if not rows:
            continue
        day = (EPOCH + timedelta(days=number)).date()
        path = directory / f"event_date={day}" / "part.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(_table(rows, categories or {}), path)
        times = [moment(row[3]) for row in rows]
        partitions.append(
            Partition(
                event_date=day,
                path=path.relative_to(directory).as_posix(),
                rows=len(rows),
                content_digest=_digest(rows),
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                bytes=path.stat().st_size,
                min_time=min(times),
                max_time=max(times),
                behaviors=dict(Counter(row[2] for row in rows)),
                inputs={"test.csv": len(rows)},
            )
        )
    accounts = Accounts(rows=len(events), events=len(events), duplicates=0, quarantined=0)
    manifest = EventsManifest(
        dataset=dataset,
        source="test",
        fingerprint=_digest(events),
        digest=_digest(events),
        behaviors=dict(Counter(row[2] for row in events)),
        user_id_type=_id_type(row[0] for row in events),
        item_id_type=_id_type(row[1] for row in events),
        partitions=tuple(partitions),
        accounts=accounts,
        outside_window=0,
        inputs=(),
        settings={},
        code_version="test",
        duckdb_version=duckdb.__version__,
    )
    write_json(directory / MANIFEST, manifest.model_dump(mode="json"))
    return Published(events=directory, digest=manifest.digest, accounts=accounts)


def _table(rows: Sequence[Event], categories: dict[int | str, int]) -> pa.Table:
    return pa.table(
        {
            "user_id": [row[0] for row in rows],
            "item_id": [row[1] for row in rows],
            "behavior": [row[2] for row in rows],
            "event_time": pa.array([moment(row[3]) for row in rows], pa.timestamp("us", tz="UTC")),
            "category_id": pa.array([categories.get(row[1]) for row in rows], pa.int64()),
            "value": pa.nulls(len(rows), pa.float64()),
            "source_file": ["test.csv"] * len(rows),
            "source_row": list(range(1, len(rows) + 1)),
        }
    )


def _digest(rows: Sequence[Event]) -> str:
    return hashlib.sha256("\n".join(sorted(map(repr, rows))).encode()).hexdigest()


def _id_type(values: Iterable[int | str]) -> IdType:
    return "string" if any(isinstance(value, str) for value in values) else "int64"
