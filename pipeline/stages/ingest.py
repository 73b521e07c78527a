"""The ingest stage: raw files to typed, deduplicated, accounted events in staging. Nobody sees them yet."""

import logging
import shutil
from pathlib import Path

from hmar.errors import StorageError
from pipeline.ingest import drift
from pipeline.ingest.appending import check_settings, content_of, new_files, repeats
from pipeline.ingest.delivery import delivered, fingerprint, identify, quarantine_of, staged
from pipeline.ingest.measures import read_measures
from pipeline.ingest.staging import Plan, stage
from pipeline.results import Landed
from pipeline.settings import RetrainSettings
from pipeline.sources import Source, source_of
from pipeline.storage.atomic import new_directory, storage_errors, sweep
from pipeline.storage.events_store import EventsManifest, files, is_published, read_manifest, remove_unnamed, state
from pipeline.storage.lock import dataset_lock

log = logging.getLogger("pipeline.ingest")


def land(s: RetrainSettings) -> Landed:
    """Read the raw log and stage its events, quarantine, accounts and metrics; or find that published already.

    ``ingest.mode: replace``: the delivery is all there is; events that an earlier one had and this one has not are
    dropped when it is published. ``append``: its files are added to what is published; those that are in already are
    skipped, and only partitions that a new row belongs to are made anew. The order in which files come does not
    matter.

    Staged under ``<home>/staging/<name>/<key>``: the event files of those partitions, the whole manifest as it would
    be published, and ``measures.json``. The quarantine goes to ``<home>/quarantine/<name>/<key>.parquet`` at once, so
    that it can be looked at if validation fails. The same files and settings give the same bytes.

    Raises:
        DataError: missing, empty or damaged files, or not of this source; append: a file of a published name with
            another content, or published events that are damaged or of another version.
        SettingsError: unknown source; append: settings or a version that the published events were not made with.
        StorageError: the disk refused, or a file changed while it was read.
        BusyError: another run is writing this dataset.
    """
    origin = source_of(s)
    staging, events = s.paths.staging(s.name), s.paths.events(s.name)
    with storage_errors(staging), dataset_lock(s.paths.lock(s.name), "ingest"):
        plan = _plan(s, origin)
        final = staged(staging, plan.fingerprint)
        _clean(s, keep=final)
        if is_published(events, plan.fingerprint):
            manifest = read_manifest(events)
            remove_unnamed(events, {partition.path for partition in manifest.partitions})
            prune_quarantine(s, plan.quarantine)
            log.info("%s: these files are published already, with these settings", s.name)
            return _landed(final, manifest, plan, reused=True)
        if final.exists() and not _fits(final, plan):
            shutil.rmtree(final)
        if s.table is not None:
            drift.tell(events, [one.file for one in plan.new])
        if not final.exists():
            with new_directory(final) as directory:
                stage(s, origin, plan, directory)
        return _landed(final, read_manifest(final), plan)


def prune_quarantine(s: RetrainSettings, own: Path | None) -> None:
    """Remove the quarantine of deliveries that ``own`` has replaced; a delivery that is added replaces none.

    Call it while holding the dataset's lock, when the delivery is published.
    """
    # Without a file of its own, what is published was added up from the deliveries that the other files are of.
    if s.ingest.mode == "replace" and own is not None and own.is_file():
        for other in own.parent.glob("*.parquet"):
            if other != own:
                other.unlink()


def _fits(staging: Path, plan: Plan) -> bool:
    """Whether what is staged was made for the events as they are now."""
    try:
        return read_measures(staging).based_on == plan.based_on
    except StorageError:
        return False


def _landed(staging: Path, manifest: EventsManifest, plan: Plan, reused: bool = False) -> Landed:
    return Landed(
        staging=staging,
        fingerprint=plan.fingerprint,
        accounts=manifest.accounts,
        reused=reused,
        quarantine=plan.quarantine,
    )


def _plan(s: RetrainSettings, origin: Source) -> Plan:
    events = s.paths.events(s.name)
    identified = identify(delivered(s, origin))
    based_on, published = None, None
    if s.ingest.mode == "append":
        based_on = state(events)
        if based_on:
            published = read_manifest(events)
            check_settings(s, published)
            files(published, events)
    earlier = published.inputs if published else ()
    new = new_files(identified, earlier)
    return Plan(
        new=new,
        published=published,
        based_on=based_on,
        repeats=repeats(s, new, earlier),
        fingerprint=fingerprint(s, [*(one.content for one in new), *map(content_of, earlier)]),
        quarantine=quarantine_of(s, [one.content for one in new]) if new else None,
    )


def _clean(s: RetrainSettings, keep: Path) -> None:
    """Remove what killed runs left and what other deliveries staged; we hold the lock, so nobody is using it."""
    staging = s.paths.staging(s.name)
    for directory in (staging, s.paths.quarantine(s.name), s.paths.events(s.name)):
        if directory.is_dir():
            sweep(directory)
    for other in staging.iterdir() if staging.is_dir() else ():
        if other != keep:
            shutil.rmtree(other, ignore_errors=True)
