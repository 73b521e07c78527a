"""The inspection of a snapshot: what is wrong with it is counted, judged, and shown; a wrong one is not trained on."""

import logging
from pathlib import Path

from hmar.data.snapshot import Snapshot
from hmar.errors import DataError
from pipeline.checks.judge import judge
from pipeline.checks.page import SNAPSHOT_PAGE, write_snapshot_page
from pipeline.checks.snapshot import suite
from pipeline.checks.snapshot_measures import measure
from pipeline.results import Built
from pipeline.settings import RetrainSettings
from pipeline.storage.atomic import read_json, storage_errors, write_json
from pipeline.storage.lock import dataset_lock

RESULT = "snapshot.json"

log = logging.getLogger(__name__)


def inspect(s: RetrainSettings, built: Built) -> Built:
    """Judge a snapshot, render it into the dataset's Data Docs and ``snapshot.html``; once per snapshot.

    Raises:
        DataError: it violates an invariant (a defect of this program or of the disk); each is named with its count.
        StorageError: the disk refused. BusyError: another run is writing this dataset.
    """
    project = s.paths.data_docs(s.name)
    result = project / RESULT
    with storage_errors(project), dataset_lock(s.paths.lock(s.name), "inspect"):
        if _holds(result, built.id):
            return built
        snapshot = Snapshot(built.snapshot)
        measures = measure(snapshot)
        verdicts, docs = judge(project, f"{s.name} snapshot", f"{s.name} snapshot", suite(measures), measures)
        failed = [verdict for verdict in verdicts if not verdict.success]
        write_snapshot_page(project / SNAPSHOT_PAGE, snapshot.manifest, verdicts)
        write_json(
            result,
            {
                "snapshot": built.id,
                "success": not failed,
                "measures": measures,
                "checks": [verdict.told() for verdict in verdicts],
                "data_docs": docs.relative_to(project).as_posix(),
            },
        )
    if failed:
        found = "; ".join(f"{verdict.check.measure} is {verdict.found}" for verdict in failed)
        raise DataError(
            f"{built.snapshot}: {found}; this is a defect, nothing was trained on it: "
            f"see {project / SNAPSHOT_PAGE}, delete the snapshot and build it again"
        )
    log.info("snapshot %s: %d expectations hold", built.id, len(verdicts))
    return built


def _holds(result: Path, snapshot: str) -> bool:
    """Whether the last inspection was of this snapshot and found nothing."""
    found = read_json(result) or {}
    return bool(found.get("success")) and found.get("snapshot") == snapshot
