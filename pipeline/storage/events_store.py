"""Published events on disk: ``manifest.json`` and the Parquet files it names.

A reader takes the files from the manifest and never from a glob: a file that no manifest names does not exist.
Columns of every file, rows ordered by (user_id, event_time, item_id, behavior, value, category_id, source_file,
source_row), nulls last:

==============  ==================================  =======================================================
user_id         BIGINT or VARCHAR (user_id_type)    as the source has it
item_id         BIGINT or VARCHAR (item_id_type)    as the source has it
behavior        VARCHAR                             one of the source's behaviors
event_time      TIMESTAMP WITH TIME ZONE            UTC, microseconds
category_id     BIGINT or VARCHAR, nullable         as the source has it (category_id_type)
value           DOUBLE, nullable                    a rating
source_file     VARCHAR                             name of the raw file, as in the manifest's ``inputs``
source_row      BIGINT                              1-based line number in that file
==============  ==================================  =======================================================
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hmar.errors import DataError, StorageError
from pipeline.results import Accounts
from pipeline.storage.atomic import TEMPORARY, flush, storage_errors, write_json

SCHEMA_VERSION: Literal[2] = 2
MANIFEST = "manifest.json"

IdType = Literal["int64", "string"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Partition(_Part):
    """One Parquet file: all events of one span of time."""

    event_date: date
    """First day of the span, UTC."""
    path: str
    """Relative to the events directory; the name is the start of ``sha256``."""
    rows: int
    content_digest: str
    """Order-independent digest of the events, without source_file and source_row."""
    sha256: str
    """Of the file's bytes."""
    bytes: int
    min_time: datetime
    max_time: datetime
    behaviors: dict[str, int]
    """Events by behavior."""
    inputs: dict[str, int]
    """Events by raw file, those with none left out."""
    sums: tuple[int, int] = (0, 0)
    """What ``content_digest`` is made of beside ``rows``: two sums over hashes of the events, which add up over
    partitions."""


class Input(_Part):
    """One raw file: rows = events + duplicates + quarantined."""

    name: str
    """Relative to what was delivered."""
    bytes: int
    sha256: str
    joined_sha256: str | None = None
    """Of the file that its rows were joined with, if there is one."""
    layout: str
    rows: int
    """Lines that are neither blank nor a header."""
    events: int
    duplicates: int
    quarantined: int
    blank_lines: int
    reasons: dict[str, int] = {}
    """Quarantined rows by reason."""
    outside_window: int = 0
    """Rows outside the time window, quarantined or kept as the settings say."""


class EventsManifest(_Part):
    """What is published: the files, what they came from, and where every raw row went."""

    schema_version: Literal[2] = SCHEMA_VERSION
    dataset: str
    source: str
    fingerprint: str
    """sha256 of what decides the events: the set of raw files (name and content), settings, SQL, versions."""
    digest: str
    """Order-independent digest of all events' content: user, item, behavior, time, category, value. It depends
    neither on the order of rows, nor on source_file and source_row, nor on how events are spread over files."""
    behaviors: dict[str, int]
    """Events by behavior."""
    user_id_type: IdType
    item_id_type: IdType
    category_id_type: IdType = "int64"
    partitions: tuple[Partition, ...]
    accounts: Accounts
    outside_window: int
    """Rows outside the time window, quarantined or kept as the settings say."""
    inputs: tuple[Input, ...]
    settings: dict[str, Any]
    """The settings that decided which events are published; how they were delivered is not among them."""
    sql: str = ""
    """sha256 of the statements that shaped the events."""
    code_version: str
    duckdb_version: str


def read_manifest(events: Path) -> EventsManifest:
    """The manifest of a published events directory.

    Raises:
        DataError: nothing is published there, or the manifest is not one of this version.
    """
    path = events / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no events are published here; run `hmar ingest` first") from None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error
    try:
        return EventsManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(
            f"{path}: not an events manifest of version {SCHEMA_VERSION} ({key}: {first['msg']}); "
            f"delete {events} and run `hmar ingest` again"
        ) from None


def files(manifest: EventsManifest, events: Path) -> list[Path]:
    """The event files in time order.

    Args:
        events: the directory that ``manifest`` was read from.

    Raises:
        DataError: a file the manifest names is missing, or of another size.
    """
    for partition in manifest.partitions:
        if not _is_whole(events, partition):
            path = events / partition.path
            trouble = f"damaged ({path.stat().st_size} of {partition.bytes} bytes)" if path.is_file() else "missing"
            raise DataError(
                f"{path}: named by the manifest but {trouble}; delete {events / MANIFEST} and run `hmar ingest` over "
                "all raw files"
            )
    return [events / partition.path for partition in manifest.partitions]


def state(events: Path) -> str:
    """What is published, as a hash that changes with the manifest; empty if nothing is."""
    try:
        return hashlib.sha256((events / MANIFEST).read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def is_published(events: Path, fingerprint: str) -> bool:
    """Whether ``events`` holds, whole, exactly what ``fingerprint`` stands for."""
    if not (events / MANIFEST).is_file():
        return False
    try:
        manifest = read_manifest(events)
    except DataError:
        return False
    return manifest.fingerprint == fingerprint and all(_is_whole(events, one) for one in manifest.partitions)


def publish(manifest: EventsManifest, staging: Path, events: Path) -> None:
    """Make the staged files the published ones: files first, then the manifest in one rename, then the cleaning.

    Partitions that are as they were stay as they are, staged or not; ``staging`` keeps its files. So a killed call can
    be repeated. Call it while holding the dataset's lock.

    Raises:
        DataError: a file that is not staged is not published whole either.
    """
    with storage_errors(events):
        changed = {events}
        for partition in manifest.partitions:
            if _is_whole(events, partition):
                continue
            destination, source = events / partition.path, staging / partition.path
            if not source.is_file():
                raise DataError(f"{destination}: damaged, and not staged; run `hmar ingest` over all raw files")
            destination.parent.mkdir(parents=True, exist_ok=True)
            _place(source, destination)
            changed.add(destination.parent)
        events.mkdir(parents=True, exist_ok=True)
        flush(changed)
    write_json(events / MANIFEST, manifest.model_dump(mode="json"))
    remove_unnamed(events, {partition.path for partition in manifest.partitions})


def remove_unnamed(events: Path, named: Iterable[str]) -> None:
    """Delete the files in ``events`` that no manifest names, and the directories this leaves empty."""
    keep = {events / name for name in named} | {events / MANIFEST}
    with storage_errors(events):
        for path in [*events.glob("event_date=*/*"), *events.glob(f"{TEMPORARY}*")]:
            if path not in keep:
                path.unlink(missing_ok=True)
        for directory in events.glob("event_date=*"):
            if not any(directory.iterdir()):
                directory.rmdir()


def _is_whole(events: Path, partition: Partition) -> bool:
    path = events / partition.path
    return path.is_file() and path.stat().st_size == partition.bytes


def _place(source: Path, destination: Path) -> None:
    """A second name for the same bytes, or a copy where the file system has no hard links; whole or not at all."""
    temporary = destination.parent / f"{TEMPORARY}{destination.name}-{uuid.uuid4().hex[:8]}"
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
        flush([temporary])
    temporary.replace(destination)
