"""The validation stage: judge what was landed, and publish it only if every expectation holds."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from hmar.errors import BusyError, DataError
from pipeline.checks import over_time
from pipeline.checks.check import Verdict
from pipeline.checks.events import suite
from pipeline.checks.judge import Judge, first_page, judge
from pipeline.checks.page import EVENTS_PAGE, write_events_page
from pipeline.ingest.accounts import Rejected
from pipeline.ingest.measures import read_measures
from pipeline.results import Landed, Published
from pipeline.settings import RetrainSettings
from pipeline.sources import Reason, source_of
from pipeline.sources.base import shown
from pipeline.sources.table import TableSource
from pipeline.stages.ingest import land, prune_quarantine
from pipeline.storage.atomic import storage_errors, write_json
from pipeline.storage.events_store import MANIFEST, is_published, publish, read_manifest, state
from pipeline.storage.lock import dataset_lock

RESULT = "result.json"
REASONS_TOLD = 5
FIX = "fix the log"
ATTEMPTS = 3
"""How often a delivery is landed before it is left to a later run."""

log = logging.getLogger("pipeline.validate")


def validate(s: RetrainSettings, landed: Landed, judged_by: Judge = judge) -> Published:
    """Judge the staged delivery, render Data Docs, ``events.html`` and ``result.json``, publish the events.

    A delivery that is published already is left alone, to the byte. It is landed again if a later run has cleared the
    staging away, or has published since what this one was to be added to.

    Args:
        judged_by: what runs the expectations.

    Raises:
        DataError: expectations failed; each is named with what was found and what was expected. Nothing is published,
            the Data Docs are there.
        StorageError: the disk refused; what was published is as it was.
        BusyError: another run is writing this dataset.
    """
    events = s.paths.events(s.name)
    for _ in range(ATTEMPTS):
        if not is_published(events, landed.fingerprint) and not _is_current(landed, events):
            landed = land(s)
        with storage_errors(events), dataset_lock(s.paths.lock(s.name), "validate"):
            if is_published(events, landed.fingerprint):
                return _unchanged(s, landed)
            if _is_current(landed, events):
                return _judge_and_publish(s, landed, judged_by)
    raise BusyError(f"{events}: other runs published {ATTEMPTS} times while this one landed; run it again later")


def _is_current(landed: Landed, events: Path) -> bool:
    """Whether the delivery is staged, and on what is published now."""
    if not (landed.staging / MANIFEST).is_file():
        return False
    based_on = read_measures(landed.staging).based_on
    return based_on is None or based_on == state(events)


def _unchanged(s: RetrainSettings, landed: Landed) -> Published:
    events = s.paths.events(s.name)
    manifest = read_manifest(events)
    shutil.rmtree(landed.staging, ignore_errors=True)
    prune_quarantine(s, landed.quarantine)
    page = first_page(s.paths.data_docs(s.name))
    return Published(
        events=events,
        digest=manifest.digest,
        accounts=manifest.accounts,
        data_docs=page if page.is_file() else None,
        changed=False,
    )


def _judge_and_publish(s: RetrainSettings, landed: Landed, judged_by: Judge) -> Published:
    events, project = s.paths.events(s.name), s.paths.data_docs(s.name)
    manifest = read_manifest(landed.staging)
    measures = read_measures(landed.staging)
    added = None if measures.based_on is None else measures.added
    metrics = measures.metrics | over_time.measures(manifest.partitions, s.expectations.trailing, added)
    verdicts, docs = judged_by(project, s.name, f"{s.name} delivery", suite(s, metrics), metrics)
    write_events_page(project / EVENTS_PAGE, manifest, metrics, verdicts, measures.rejected)
    failed = [verdict for verdict in verdicts if not verdict.success]
    write_json(
        project / RESULT,
        {
            "dataset": s.name,
            "success": not failed,
            "fingerprint": landed.fingerprint,
            "digest": manifest.digest,
            "accounts": manifest.accounts.model_dump(mode="json"),
            "metrics": metrics,
            "rejected": [one.model_dump() for one in measures.rejected],
            "checks": [verdict.told() for verdict in verdicts],
            "data_docs": docs.relative_to(project).as_posix(),
        },
    )
    if failed:
        layouts = {one.name: one.layout for one in manifest.inputs}
        raise DataError(_explanation(s, failed, measures.rejected, layouts, project / EVENTS_PAGE))
    before = _published_digest(events)
    publish(manifest, landed.staging, events)
    prune_quarantine(s, landed.quarantine)
    shutil.rmtree(landed.staging, ignore_errors=True)
    log.info(
        "%s: %s events published in %d partitions", s.name, f"{manifest.accounts.events:,}", len(manifest.partitions)
    )
    return Published(
        events=events,
        digest=manifest.digest,
        accounts=manifest.accounts,
        data_docs=docs,
        changed=before != manifest.digest,
    )


def _explanation(
    s: RetrainSettings, failed: Sequence[Verdict], rejected: Sequence[Rejected], layouts: Mapping[str, str], page: Path
) -> str:
    """One line: what failed, where the first bad rows stand, where to look. ``layouts``: their names by file."""
    parts = [f"{v.check.measure} is {v.found}, expected {v.check.expected}" for v in failed]
    if rejected and any(v.check.measure.startswith("quarantined") for v in failed):
        parts.append("quarantined: " + "; ".join(_told(s, one, layouts) for one in rejected[:REASONS_TOLD]))
    told = "; ".join(parts)
    advice = "" if told.endswith(FIX) else f"; {FIX}"
    return f"{s.name}: validation failed, nothing was published: {told}{advice}, see {page}"


def _told(s: RetrainSettings, one: Rejected, layouts: Mapping[str, str]) -> str:
    what, where = one.reason, f"in {one.rows:,} row(s), the first {one.file} line {one.first_row}"
    if one.reason == Reason.UNKNOWN_BEHAVIOR:
        origin = source_of(s)
        if isinstance(origin, TableSource):
            # As likely as a wrong log is that the settings do not name all of its codes.
            code = shown(origin.behavior_code(one.first_raw, layouts.get(one.file, "")))
            known = ", ".join(origin.table.codes)
            return f"{what} {code} {where}; table.behaviors knows the codes {known}; add it there or {FIX}"
        what += f" {shown(origin.behavior_code(one.first_raw))} (known: {', '.join(origin.BEHAVIORS)})"
    return f"{what} {where}: {shown(one.first_raw)}"


def _published_digest(events: Path) -> str | None:
    try:
        return read_manifest(events).digest
    except DataError:
        return None
