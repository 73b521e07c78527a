"""What a snapshot says of itself: its manifest."""

from pathlib import Path
from typing import Any

from hmar.data.snapshot import SCHEMA_VERSION, Manifest, Numbering
from hmar.errors import DataError
from pipeline.settings import SnapshotSettings
from pipeline.snapshot.identity import code_version
from pipeline.snapshot.verify import MANIFEST, checksums
from pipeline.snapshot.vocabulary import Vocabulary
from pipeline.snapshot.warehouse import Warehouse
from pipeline.storage.atomic import write_json
from pipeline.storage.events_store import EventsManifest
from pipeline.storage.statements import digest

CORE_NOTE = (
    "k-core: users and items are counted over the whole log, so which of them are in the snapshot depends on events "
    "after the targets; histories, counts and candidates do not"
)

PUBLISHED_NOTE = (
    "split published: leaks by intent, to compare with printed tables; validation is test unless the settings ask for "
    "one of its own, the catalog is the whole log's, and a history holds the events of the target's own time that "
    "stand before it"
)


def write_manifest(
    warehouse: Warehouse,
    settings: SnapshotSettings,
    events: EventsManifest,
    vocabulary: Vocabulary,
    identity: str,
    splits: dict[str, dict[str, Any]],
    directory: Path,
) -> None:
    """Write manifest.json, the last file: it lists the checksums of all others.

    Raises:
        DataError: the events read are not as many as their manifest says.
    """
    read = warehouse.value("select count(*) from log")
    promised = sum(partition.rows for partition in events.partitions)
    if read != promised:
        raise DataError(f"{events.dataset}: the event files hold {read} events, their manifest says {promised}")
    counts = dict(warehouse.rows("select behavior, count(*) from events group by behavior"))
    used = sum(counts.values())
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        id=identity,
        dataset=events.dataset,
        source=events.source,
        behaviors=settings.behaviors,
        target=settings.target,
        repeats=settings.repeats,
        consumed_by=settings.consumed_by,
        item_id_type=events.item_id_type,
        user_id_type=events.user_id_type,
        users=warehouse.value("select count(*) from users"),
        items=warehouse.value("select count(*) from items"),
        events=used,
        behavior_counts={name: counts.get(code, 0) for code, name in enumerate(settings.behaviors)},
        candidates=settings.candidates,
        vocabulary=Numbering(
            digest=vocabulary.digest,
            generation=vocabulary.generation,
            new_users=vocabulary.users.new,
            new_items=vocabulary.items.new,
        ),
        splits=splits,
        accounts={
            "rows": events.accounts.rows,
            "duplicates": events.accounts.duplicates,
            "quarantined": events.accounts.quarantined,
            "events": read,
            "outside_k_core": read - used,
            "used": used,
        },
        settings=settings.model_dump(mode="json"),
        inputs=[{"name": "events", "digest": events.digest}, *(raw.model_dump(mode="json") for raw in events.inputs)],
        code_version=code_version(),
        sql_digest=digest("snapshot"),
        files=checksums(directory),
        feedback=feedback(settings) if settings.impressions.wanted else {},
        notes=_notes(settings, vocabulary),
    )
    write_json(directory / MANIFEST, manifest.model_dump(mode="json"))


def feedback(settings: SnapshotSettings) -> dict[str, int]:
    """What behaviors say of an item: 1 yes, 0 no."""
    return {**dict.fromkeys(settings.positive, 1), **dict.fromkeys(settings.impressions.negative, 0)}


def _notes(settings: SnapshotSettings, vocabulary: Vocabulary) -> tuple[str, ...]:
    core = settings.k_core
    core_notes = (CORE_NOTE,) if core.user > 1 or core.item > 1 else ()
    split_notes = (PUBLISHED_NOTE,) if "published" in settings.splits else ()
    restart_notes = (
        (f"vocabulary: dense ids start anew, generation {vocabulary.generation}: {vocabulary.restarted}",)
        if vocabulary.restarted
        else ()
    )
    return core_notes + split_notes + restart_notes
