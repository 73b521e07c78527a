"""Raw logs written by a test, and what an ingest made of them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from pipeline.results import Landed
from pipeline.settings import RetrainSettings
from pipeline.stages.ingest import land
from pipeline.storage.events_store import files, publish, read_manifest
from pipeline.storage.lock import dataset_lock

DAY = 86_400
START = 1_511_539_200
"""2017-11-24 16:00:00 UTC, the first second of the Taobao preset's window."""


class Event(NamedTuple):
    """One event as it is stored; time in seconds since 1970."""

    user_id: int
    item_id: int
    behavior: str
    time: int
    category_id: int | None
    value: float | None
    source_file: str
    source_row: int


class Rejected(NamedTuple):
    """One row of the quarantine."""

    source_file: str
    source_row: int
    reason: str
    raw: str


def settings(dataset: str, raw: Path, home: Path, **values: Any) -> RetrainSettings:
    """The settings of a run on ``raw``."""
    engine = {"threads": 2, "memory_limit": "1GB"}
    return RetrainSettings.resolve(
        {"dataset": dataset, "raw": raw, "home": home, "engine": engine, **values}, use_environment=False
    )


def write(path: Path, text: str | bytes) -> Path:
    """``text`` as the file ``path``, byte for byte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def taobao_rows(count: int, start: int = START, users: int = 7) -> list[str]:
    """Distinct good rows of a Taobao log."""
    behaviors = ("pv", "pv", "pv", "fav", "cart", "buy")
    return [
        f"{n % users + 1},{n * 7 % 1000 + 1},{n % 13},{behaviors[n % 6]},{start + n * 61 % (9 * DAY)}"
        for n in range(count)
    ]


def staged_events(landed: Landed) -> list[Event]:
    """The staged events in stored order."""
    return read_events(landed.staging)


def read_events(directory: Path) -> list[Event]:
    """The events a manifest names, in stored order."""
    paths = [str(path) for path in files(read_manifest(directory), directory)]
    if not paths:
        return []
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        rows: list[tuple[Any, ...]] = []
        for path in paths:
            rows += connection.execute(
                "select user_id, item_id, behavior, epoch(event_time)::bigint, category_id, value, source_file, "
                "source_row from read_parquet(?)",
                [path],
            ).fetchall()
    return [Event(*row) for row in rows]


def quarantine(s: RetrainSettings, landed: Landed) -> list[Rejected]:
    """The rows the delivery had rejected."""
    assert landed.quarantine is not None
    assert landed.quarantine.parent == s.paths.quarantine(s.name)
    return rejected_rows(landed.quarantine)


def rejected_rows(path: Path) -> list[Rejected]:
    """The rows of one file of the quarantine."""
    with duckdb.connect() as connection:
        rows = connection.execute(
            "select source_file, source_row, reason, raw from read_parquet(?)", [str(path)]
        ).fetchall()
    return [Rejected(*row) for row in rows]


def land_and_publish(s: RetrainSettings) -> Landed:
    """Both stages without the judgement in between, which takes seconds to import."""
    landed = land(s)
    if not landed.reused:
        with dataset_lock(s.paths.lock(s.name), "test"):
            publish(read_manifest(landed.staging), landed.staging, s.paths.events(s.name))
    return landed


def contents(directory: Path, *ignored: str) -> dict[str, str]:
    """sha256 by relative path of every file below ``directory`` whose path holds none of ``ignored``."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not any(word in str(path.relative_to(directory)) for word in ignored)
    }


def lines(rows: Iterable[str]) -> str:
    """The rows as a text whose last line ends like the others."""
    return "".join(f"{row}\n" for row in rows)
