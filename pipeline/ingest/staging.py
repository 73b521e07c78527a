"""One delivery through the ingest, into a directory: what would be published, and what it is judged by."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from hmar import __version__
from pipeline.ingest import accounts as accounting
from pipeline.ingest.appending import Repeats
from pipeline.ingest.candidates import Candidates
from pipeline.ingest.delivery import Identified, check_unchanged, deciding_settings, shaping_sql
from pipeline.ingest.measures import MEASURES, Measures, measure
from pipeline.ingest.ordering import Earlier
from pipeline.ingest.writing import Merged, digest_of, write_partitions, write_quarantine
from pipeline.results import Accounts
from pipeline.settings import RetrainSettings
from pipeline.sources import Source
from pipeline.storage.atomic import TEMPORARY, publish_file, storage_errors, write_json
from pipeline.storage.engine import connect
from pipeline.storage.events_store import MANIFEST, EventsManifest, Input, Partition


@dataclass(frozen=True)
class Plan:
    """What is to be landed."""

    new: Sequence[Identified]
    """The delivered files that are not published yet."""
    published: EventsManifest | None
    """What they are added to; None: nothing stays of what is published."""
    based_on: str | None
    """The state of the events that this is (:func:`pipeline.storage.events_store.state`); None: any."""
    repeats: Repeats
    fingerprint: str
    """Of the events as they will be."""
    quarantine: Path | None
    """Where the rejected rows of the new files go; None: there are no new files."""

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The files that are published and stay."""
        return self.published.inputs if self.published else ()

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """The partitions that are published and stay, but for those a new row belongs to."""
        return self.published.partitions if self.published else ()

    @property
    def accounts(self) -> Accounts | None:
        return self.published.accounts if self.published else None


def stage(s: RetrainSettings, origin: Source, plan: Plan, directory: Path) -> None:
    """Fill ``directory`` with the event files of the partitions that a new row belongs to, the manifest of all events
    as they would be published, and the measures; put the quarantine where it belongs.

    Raises:
        DataError: a file is damaged or no text. StorageError: the disk refused, or a file changed while it was read.
        HmarError: the accounts do not add up (a defect of this program, nothing is published).
    """
    scratch = directory.parent / f"{directory.name}-rows"
    scratch.mkdir()
    try:
        with connect(s.engine, directory.parent) as connection:
            read = [one for one in plan.new if one.file.name not in plan.repeats.of]
            names = sorted({*(one.file.name for one in plan.new), *(one.name for one in plan.inputs)})
            candidates = Candidates(connection, origin, [one.file for one in read], names, scratch)
            candidates.read(s.ingest)
            check_unchanged(plan.new)
            events = s.paths.events(s.name)
            kept = {one.event_date: one for one in plan.partitions}
            merged = write_partitions(candidates, s.ingest, Earlier(events, kept, plan.repeats.displaced), directory)
            rejections = candidates.rejections()
            if plan.quarantine is not None:
                _keep_quarantine(candidates, plan.quarantine)
            manifest = _manifest(s, origin, plan, merged, accounting.read_inputs(candidates, read, rejections, merged))
            written = {one.path for one in merged.partitions}
            found = candidates.metrics(
                [(directory if one.path in written else events) / one.path for one in manifest.partitions]
            )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    delivered = _delivered(plan, merged, manifest)
    measures = Measures(
        metrics=measure(found, manifest, delivered, s.snapshot.target),
        rejected=accounting.rejected(rejections),
        based_on=plan.based_on,
        added=sorted(one.file.name for one in plan.new),
    )
    write_json(directory / MEASURES, measures.model_dump(mode="json"))
    write_json(directory / MANIFEST, manifest.model_dump(mode="json"))


def _manifest(s: RetrainSettings, origin: Source, plan: Plan, merged: Merged, read: Sequence[Input]) -> EventsManifest:
    by_day = {one.event_date: one for one in (*plan.partitions, *merged.partitions)}
    partitions = tuple(by_day[day] for day in sorted(by_day))
    known = {one.name: one for one in (*plan.inputs, *read)}
    for one in plan.new:
        if one.file.name not in known:
            known[one.file.name] = accounting.repeated_input(one, known[plan.repeats.of[one.file.name]])
    inputs = accounting.settle(list(known.values()), partitions, plan.repeats.of)
    behaviors = {name: sum(one.behaviors.get(name, 0) for one in partitions) for name in sorted(origin.BEHAVIORS)}
    return EventsManifest(
        dataset=s.name,
        source=s.source,
        fingerprint=plan.fingerprint,
        digest=digest_of(partitions),
        behaviors={name: events for name, events in behaviors.items() if events},
        user_id_type=origin.USER_ID_TYPE,
        item_id_type=origin.ITEM_ID_TYPE,
        category_id_type=origin.CATEGORY_ID_TYPE,
        partitions=partitions,
        accounts=accounting.total(inputs, partitions),
        outside_window=sum(one.outside_window for one in inputs),
        inputs=inputs,
        settings=deciding_settings(s),
        sql=shaping_sql(s.source),
        code_version=__version__,
        duckdb_version=duckdb.__version__,
    )


def _delivered(plan: Plan, merged: Merged, manifest: EventsManifest) -> Accounts:
    """The accounts of the new files, told to the log file by file."""
    names = {one.file.name for one in plan.new}
    new = [one for one in manifest.inputs if one.name in names]
    accounting.tell(new)
    repeated = sum(one.rows for one in new if one.name in plan.repeats.of)
    displaced = sum(one.events for one in plan.inputs if one.name in plan.repeats.displaced)
    return accounting.added(new, merged.left_out + repeated + displaced, plan.accounts, manifest.accounts)


def _keep_quarantine(candidates: Candidates, path: Path) -> None:
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{TEMPORARY}{path.name}"
        write_quarantine(candidates, temporary)
        publish_file(temporary, path)
