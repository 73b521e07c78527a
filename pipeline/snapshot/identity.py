"""What decides a snapshot, checked and hashed to its id."""

import hashlib
import json
from typing import Any

import duckdb

import hmar
from hmar.data.snapshot import SCHEMA_VERSION
from hmar.errors import DataError, SettingsError
from hmar.settings import nearest
from pipeline.settings import SnapshotSettings
from pipeline.snapshot.vocabulary import Vocabulary
from pipeline.storage.events_store import EventsManifest
from pipeline.storage.statements import digest

MOST_BEHAVIORS = 8
"""How many behaviors the HBI statements have slots for."""


def check_behaviors(settings: SnapshotSettings, events: EventsManifest) -> None:
    """Compare the behaviors that the settings name with those that the events have.

    Raises:
        SettingsError: the settings name none, too many, or not all that occur.
        DataError: no event has the target behavior.
    """
    found = {name: count for name, count in events.behaviors.items() if count}
    held = ", ".join(f"{name} {count}" for name, count in found.items()) or "nothing"
    if not settings.behaviors or not settings.target:
        missing = "behaviors" if not settings.behaviors else "target"
        raise SettingsError(f"snapshot.{missing}: is empty, name the behaviors to use (the events hold {held})")
    if len(settings.behaviors) > MOST_BEHAVIORS:
        raise SettingsError(
            f"snapshot.behaviors: {len(settings.behaviors)} are named, at most {MOST_BEHAVIORS} can be kept apart"
        )
    for name in found:
        if name not in settings.behaviors:
            raise SettingsError(
                f"snapshot.behaviors: the events hold behavior {name!r}, which is not among them"
                f"{nearest(name, list(settings.behaviors))}"
            )
    if not found.get(settings.target):
        raise DataError(
            f"dataset without target events: {events.dataset} has no event of the target behavior "
            f"{settings.target!r}; it holds {held}"
        )


def engine_version() -> str:
    """What ran the statements; another version may hash and compress differently."""
    return f"duckdb {duckdb.__version__}"


def code_version() -> str:
    return f"hmar {hmar.__version__}, {engine_version()}"


def snapshot_id(settings: SnapshotSettings, events: EventsManifest, vocabulary: Vocabulary) -> str:
    """16 hex digits over everything that decides the snapshot's content."""
    decisive: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "dataset": events.dataset,
        "events": events.digest,
        "vocabulary": vocabulary.model_dump(mode="json"),
        "sql": digest("snapshot"),
        "settings": settings.model_dump(mode="json"),
        "code": code_version(),
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
