"""The validation stage: judge what was landed, and publish it only if every expectation holds."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from hmar.errors import DataError
from pipeline.expectations import Verdict, checks
from pipeline.ingest.accounts import Rejected
from pipeline.ingest.data_docs import first_page, judge
from pipeline.ingest.measures import read_measures
from pipeline.results import Landed, Published
from pipeline.settings import RetrainSettings
from pipeline.sources import Reason, source
from pipeline.sources.base import shown
from pipeline.stages.ingest import land
from pipeline.storage.atomic import storage_errors, write_json
from pipeline.storage.events_store import MANIFEST, is_published, publish, read_manifest
from pipeline.storage.lock import dataset_lock

RESULT = "result.json"
REASONS_TOLD = 5

log = logging.getLogger("pipeline.validate")


def validate(s: RetrainSettings, landed: Landed) -> Published:
    """Judge the staged delivery, render Data Docs and ``result.json`` beside them, publish the events.

    A delivery that is published already is left alone, to the byte. Staging that a later run has cleared away is
    landed again.

    Raises:
        DataError: expectations failed; each is named with what was found and what was expected. Nothing is published,
            the Data Docs are there.
        StorageError: the disk refused; what was published is as it was.
        BusyError: another run is writing this dataset.
    """
    events, project = s.paths.events(s.name), s.paths.data_docs(s.name)
    if not is_published(events, landed.fingerprint) and not (landed.staging / MANIFEST).is_file():
        landed = land(s)
    with storage_errors(events), dataset_lock(s.paths.lock(s.name), "validate"):
        if is_published(events, landed.fingerprint):
            manifest = read_manifest(events)
            shutil.rmtree(landed.staging, ignore_errors=True)
            page = first_page(project)
            return Published(
                events=events,
                digest=manifest.digest,
                accounts=manifest.accounts,
                data_docs=page if page.is_file() else None,
                changed=False,
            )
        manifest = read_manifest(landed.staging)
        measures = read_measures(landed.staging)
        verdicts, docs = judge(project, s.name, checks(s), measures.metrics)
        failed = [verdict for verdict in verdicts if not verdict.success]
        write_json(
            project / RESULT,
            {
                "dataset": s.name,
                "success": not failed,
                "fingerprint": landed.fingerprint,
                "digest": manifest.digest,
                "accounts": manifest.accounts.model_dump(mode="json"),
                "metrics": measures.metrics,
                "rejected": [one.model_dump() for one in measures.rejected],
                "checks": [
                    {
                        "name": verdict.check.measure,
                        "expected": verdict.check.expected,
                        "found": verdict.found,
                        "success": verdict.success,
                        "why": verdict.check.why,
                    }
                    for verdict in verdicts
                ],
                "data_docs": docs.relative_to(project).as_posix(),
            },
        )
        if failed:
            raise DataError(_explanation(s, failed, measures.rejected, docs))
        before = _published_digest(events)
        publish(manifest, landed.staging, events)
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


def _explanation(s: RetrainSettings, failed: Sequence[Verdict], rejected: Sequence[Rejected], docs: Path) -> str:
    """One line: what failed, where the first bad rows stand, where to look."""
    parts = [f"{v.check.measure} is {v.found}, expected {v.check.expected}" for v in failed]
    if rejected and any(v.check.measure.startswith("quarantined") for v in failed):
        parts.append("quarantined: " + "; ".join(_told(s, one) for one in rejected[:REASONS_TOLD]))
    return f"{s.name}: validation failed, nothing was published: {'; '.join(parts)}; fix the log, see {docs}"


def _told(s: RetrainSettings, one: Rejected) -> str:
    what = one.reason
    if one.reason == Reason.UNKNOWN_BEHAVIOR:
        origin = source(s.source)
        what += f" {shown(origin.behavior_code(one.first_raw))} (known: {', '.join(origin.BEHAVIORS)})"
    return f"{what} in {one.rows:,} row(s), the first {one.file} line {one.first_row}: {shown(one.first_raw)}"


def _published_digest(events: Path) -> str | None:
    try:
        return read_manifest(events).digest
    except DataError:
        return None
