"""What earlier stages returned, read back from what they left on the disk."""

from pathlib import Path

from pipeline.judged import as_evaluated
from pipeline.results import Built, Evaluated, Published, Trained
from pipeline.settings import RetrainSettings
from pipeline.storage.events_store import read_manifest


def published(s: RetrainSettings) -> Published:
    """The events as they are published now.

    Raises:
        DataError: none are.
    """
    events = s.paths.events(s.name)
    manifest = read_manifest(events)
    return Published(events=events, digest=manifest.digest, accounts=manifest.accounts, changed=False)


def built(s: RetrainSettings) -> Built:
    """The snapshot of the published events under these settings; built if it is not there, inspected.

    Raises:
        HmarError: as the stages snapshot and inspect.
    """
    from pipeline.stages.inspect import inspect
    from pipeline.stages.snapshot import build

    return inspect(s, build(s, published(s)))


def trained(s: RetrainSettings, run: str) -> tuple[Built, list[Trained]]:
    """The finished trainings of a run, in the order of the settings, and the snapshot they were made on."""
    from hmar.train.directory import read_record

    root = s.paths.root / "trainings" / run
    order = {model: place for place, model in enumerate(s.models)}
    directories = sorted(
        (path.parent for path in root.glob("*/run.json")), key=lambda p: (order.get(p.name, len(order)), p.name)
    )
    found: list[Trained] = []
    snapshot = Path()
    for directory in directories:
        record = read_record(directory)
        if record.status == "finished" and record.mlflow_run:
            found.append(Trained(model=record.model, directory=directory, mlflow_run=record.mlflow_run))
            snapshot = s.paths.snapshots(s.name) / record.snapshot
    return Built(snapshot=snapshot, id=snapshot.name, reused=True), found


def evaluated(s: RetrainSettings, run: str) -> tuple[Built, list[Evaluated]]:
    """The judged models of a run.

    Raises:
        DataError: one of them was not judged.
    """
    of, models = trained(s, run)
    return of, [as_evaluated(s, of, one.model, one.directory, one.mlflow_run) for one in models]
