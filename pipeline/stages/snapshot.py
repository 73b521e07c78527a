"""The snapshot stage: published events to point-in-time correct sequences, splits and stored candidates."""

import logging
from pathlib import Path

from pipeline.results import Built, Published
from pipeline.settings import RetrainSettings
from pipeline.snapshot.arrays import write_arrays, write_offsets
from pipeline.snapshot.description import write_manifest
from pipeline.snapshot.events import hbi_columns, may_repeat, read_events, write_events
from pipeline.snapshot.identity import check_behaviors, snapshot_id
from pipeline.snapshot.splits import write_splits
from pipeline.snapshot.verify import damage
from pipeline.snapshot.vocabulary import Vocabulary, directory_of, extended, open_vocabulary
from pipeline.snapshot.warehouse import Warehouse
from pipeline.storage.atomic import new_directory, read_json, storage_errors, sweep, write_json
from pipeline.storage.engine import connect
from pipeline.storage.events_store import EventsManifest, files, read_manifest
from pipeline.storage.lock import dataset_lock

LATEST = "latest.json"

log = logging.getLogger(__name__)


def build(s: RetrainSettings, published: Published) -> Built:
    """Build the snapshot of the published events, or find it built already.

    The directory ``<home>/snapshots/<name>/<id>`` has the format of :mod:`hmar.data.snapshot`; ``latest.json`` beside
    it names the newest id. A snapshot with the same id is reused after every file of it was checked.

    Raises:
        SettingsError: the settings' behaviors are not those of the events.
        DataError: no published events, no target events, nothing left after the k-core, an HBI count too large.
        StorageError: the disk refused; earlier snapshots are as they were.
        BusyError: another run is writing this dataset.
    """
    home = s.paths.snapshots(s.name)
    with storage_errors(home), dataset_lock(s.paths.lock(s.name), "snapshot"):
        sweep(home)
        events = read_manifest(published.events)
        check_behaviors(s.snapshot, events)
        known = open_vocabulary(_vocabulary(s))
        built = _find(s, events, known, home) or _build(s, events, files(events, published.events), known, home)
        _point_to(home / LATEST, built.id)
    return built


def _find(s: RetrainSettings, events: EventsManifest, known: Vocabulary | None, home: Path) -> Built | None:
    """The whole snapshot that is there already, without a look at the events."""
    if known is None or known.events != events.digest:
        return None
    identity = snapshot_id(s.snapshot, events, known)
    return Built(snapshot=home / identity, id=identity, reused=True) if _is_whole(home / identity) else None


def _build(
    s: RetrainSettings, events: EventsManifest, sources: list[Path], known: Vocabulary | None, home: Path
) -> Built:
    """Number users and items, write the snapshot, publish the numbers and then the snapshot.

    The numbers come first: a snapshot that models train on must never be renumbered by the next one. They are
    published when all else is written, so that a build that fails leaves none behind.
    """
    with connect(s.engine, home) as connection:
        warehouse = Warehouse(connection)
        read_events(warehouse, s.snapshot, sources)
        with extended(warehouse, events, known, _vocabulary(s)) as extension:
            identity = snapshot_id(s.snapshot, events, extension.vocabulary)
            final = home / identity
            with new_directory(final, replace=True) as directory:
                _write(s, warehouse, events, extension.vocabulary, identity, directory)
                extension.publish()
    return Built(snapshot=final, id=identity)


def _vocabulary(s: RetrainSettings) -> Path:
    return directory_of(s.paths.vocabularies(s.name), s.snapshot.k_core)


def _is_whole(snapshot: Path) -> bool:
    if not snapshot.exists():
        return False
    trouble = damage(snapshot)
    if trouble:
        log.warning("snapshot %s is damaged and will be built again: %s", snapshot.name, trouble)
    return trouble is None


def _write(
    s: RetrainSettings,
    warehouse: Warehouse,
    events: EventsManifest,
    vocabulary: Vocabulary,
    identity: str,
    directory: Path,
) -> None:
    arrays = directory / "arrays"
    arrays.mkdir()
    write_events(warehouse, s.snapshot, directory, equal=may_repeat(events))
    write_arrays(directory / "events.parquet", hbi_columns(s.snapshot), arrays)
    starts = warehouse.arrow("select first_event from offsets order by user").column("first_event")
    write_offsets(starts, warehouse.value("select max(end_event) from offsets"), arrays)
    splits = write_splits(warehouse, s.snapshot, directory)
    write_manifest(warehouse, s.snapshot, events, vocabulary, identity, splits, directory)


def _point_to(latest: Path, identity: str) -> None:
    """Make ``latest`` name the snapshot; it is left alone where it does already."""
    content = {"id": identity}
    if read_json(latest) != content:
        write_json(latest, content)
