"""The ingest stage: raw files to typed, deduplicated, accounted events in staging. Nobody sees them yet."""

import logging
import shutil
from pathlib import Path

import duckdb

from hmar import __version__
from pipeline.ingest import accounts as accounting
from pipeline.ingest.candidates import DUPLICATE, Candidates
from pipeline.ingest.delivery import (
    Identified,
    check_unchanged,
    deciding_settings,
    delivery_key,
    fingerprint,
    identify,
    staged,
)
from pipeline.ingest.measures import MEASURES, Measures, measure
from pipeline.ingest.writing import content_digest, sums_of, write_partitions, write_quarantine
from pipeline.results import Landed
from pipeline.settings import RetrainSettings
from pipeline.sources import Reason, Source, delivery, source
from pipeline.storage.atomic import TEMPORARY, new_directory, publish_file, storage_errors, sweep, write_json
from pipeline.storage.engine import connect
from pipeline.storage.events_store import MANIFEST, EventsManifest, is_published, read_manifest, remove_unnamed
from pipeline.storage.lock import dataset_lock

log = logging.getLogger("pipeline.ingest")


def land(s: RetrainSettings) -> Landed:
    """Read the raw log and stage its events, quarantine, accounts and metrics; or find that published already.

    The delivery is all there is: events that an earlier delivery had and this one has not are dropped when it is
    published. Staged under ``<home>/staging/<name>/<key>``: the event files and manifest as they would be published,
    and ``measures.json``. The quarantine goes to ``<home>/quarantine/<name>/<key>.parquet`` at once, so that it can be
    looked at if validation fails. The same files and settings give the same bytes.

    Raises:
        DataError: missing, empty or damaged files, or not of this source.
        SettingsError: unknown source. StorageError: the disk refused, or a file changed while it was read.
        BusyError: another run is writing this dataset.
    """
    origin = source(s.source)
    staging, events = s.paths.staging(s.name), s.paths.events(s.name)
    with storage_errors(staging), dataset_lock(s.paths.lock(s.name), "ingest"):
        identified = identify(delivery(origin, s.raw))
        key = fingerprint(s, identified)
        final = staged(staging, key)
        _clean(s, keep=final)
        if is_published(events, key):
            manifest = read_manifest(events)
            remove_unnamed(events, {partition.path for partition in manifest.partitions})
            log.info("%s: these files are published already, with these settings", s.name)
            return Landed(staging=final, fingerprint=key, accounts=manifest.accounts, reused=True)
        if not final.exists():
            with new_directory(final) as directory:
                _stage(s, origin, identified, key, directory)
        manifest = read_manifest(final)
        return Landed(staging=final, fingerprint=key, accounts=manifest.accounts)


def _stage(s: RetrainSettings, origin: Source, identified: list[Identified], key: str, directory: Path) -> None:
    with connect(s.engine, directory.parent) as connection:
        candidates = Candidates(connection, origin, [one.file for one in identified])
        candidates.read(s.ingest)
        check_unchanged(identified)
        fates = candidates.fates()
        inputs = accounting.inputs(candidates, identified, fates)
        outside = sum(f.outside_window for f in fates if f.reason in (None, DUPLICATE, Reason.OUTSIDE_WINDOW))
        accounts = accounting.total(inputs, fates, outside)
        behaviors = candidates.behaviors()
        measures = measure(candidates, accounts, behaviors, outside, s.snapshot.target)
        rejected = accounting.rejected(candidates, fates)
        spans = candidates.spans()
        _keep_quarantine(connection, s.paths.quarantine(s.name) / f"{delivery_key(key)}.parquet")
        partitions = write_partitions(candidates, spans, directory)
    manifest = EventsManifest(
        dataset=s.name,
        source=s.source,
        fingerprint=key,
        digest=content_digest([sums_of(span) for span in spans]),
        behaviors=behaviors,
        user_id_type=origin.USER_ID_TYPE,
        item_id_type=origin.ITEM_ID_TYPE,
        partitions=partitions,
        accounts=accounts,
        outside_window=outside,
        inputs=inputs,
        settings=deciding_settings(s),
        code_version=__version__,
        duckdb_version=duckdb.__version__,
    )
    write_json(directory / MEASURES, Measures(metrics=measures, rejected=rejected).model_dump(mode="json"))
    write_json(directory / MANIFEST, manifest.model_dump(mode="json"))


def _keep_quarantine(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{TEMPORARY}{path.name}"
        write_quarantine(connection, temporary)
        publish_file(temporary, path)


def _clean(s: RetrainSettings, keep: Path) -> None:
    """Remove what killed runs left and what other deliveries staged; we hold the lock, so nobody is using it."""
    staging = s.paths.staging(s.name)
    for directory in (staging, s.paths.quarantine(s.name), s.paths.events(s.name)):
        if directory.is_dir():
            sweep(directory)
    for other in staging.iterdir() if staging.is_dir() else ():
        if other != keep:
            shutil.rmtree(other, ignore_errors=True)
