"""What a run's report tells of the run that a later one overwrites: kept beside its trainings as soon as it is known.

``trainings/<run>/<snapshot id>.json`` holds the raw rows behind the snapshot, what the data checks found and the run's
settings. All else that a report shows has files of its own. A run goes on only with the snapshot it began with, so the
name keeps an attempt with other events from touching what is told of the first.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from hmar.data.snapshot import Manifest, Snapshot
from hmar.errors import DataError, SettingsError
from hmar.tracking.client import public
from pipeline.results import Accounts, Built
from pipeline.settings import RetrainSettings
from pipeline.storage.atomic import read_json, write_json
from pipeline.storage.events_store import EventsManifest, Input, read_manifest

REPUBLISHED = "events have been published again since"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rows(_Part):
    """The raw rows that a snapshot's events come from."""

    accounts: Accounts
    inputs: tuple[Input, ...]
    outside_window: int
    """Rows outside the time window, quarantined or kept."""
    first: str = ""
    """Time of the first event, UTC to the minute; empty if there are none, or if it is not known any more."""
    last: str = ""
    doubt: str = ""
    """Why some of it is not known; empty where all is."""


class Kept(_Part):
    """What is known of a run beyond the files of its stages."""

    rows: Rows
    checks: tuple[dict[str, Any], ...] = ()
    """The expectations about these events: name, expected, found, success, why."""
    settings: dict[str, Any] = {}
    """Of the whole run, without its data directory and without passwords; empty where it was run stage by stage."""


def keep(s: RetrainSettings, run: str, built: Built, *, whole: bool = True) -> None:
    """Write down what is known now. Call it when the snapshot is there; called again, the newer knowledge stays.

    Args:
        whole: whether the settings are those of every stage of the run.

    Raises:
        StorageError: the disk refused.
    """
    found = known_now(s, built)
    if whole:
        found = found.model_copy(update={"settings": masked(s.model_dump(mode="json", exclude={"home"}))})
    write_json(s.paths.kept(run, built.id), found.model_dump(mode="json"))


def read_kept(s: RetrainSettings, run: str, built: Built) -> Kept | None:
    """What was kept of the run; None where nothing was, as by a run of an earlier version."""
    try:
        return Kept.model_validate_json(s.paths.kept(run, built.id).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def known_now(s: RetrainSettings, built: Built) -> Kept:
    """The rows and checks of a snapshot's events, from what is published now, or where that is something else, from
    the snapshot's own manifest."""
    manifest = Snapshot(built.snapshot).manifest
    try:
        events = read_manifest(s.paths.events(s.name))
    except DataError:
        events = None
    if events is None or events.digest != _events_digest(manifest):
        return Kept(rows=_rows_of_snapshot(manifest))
    return Kept(rows=_rows(events), checks=tuple(_checks(s, events)))


def settings_of_run(s: RetrainSettings, run: str, built: Built) -> RetrainSettings:
    """The settings that the run had, in the data directory and with the MLflow store of ``s``.

    Of a run that left none, or whose settings are none of this version's, what the snapshot says over ``s``.
    """
    kept = read_kept(s, run, built)
    here = {"home": s.home, "tracking_uri": s.tracking_uri}
    manifest = Snapshot(built.snapshot).manifest
    for values in (kept.settings if kept else {}, s.model_dump() | {"snapshot": manifest.settings}):
        try:
            if values:
                return RetrainSettings.resolve(values | here, use_environment=False)
        except SettingsError:
            continue
    return s


def masked(values: dict[str, Any]) -> dict[str, Any]:
    """Nested settings; addresses without passwords."""
    return {key: _masked(key, value) for key, value in values.items()}


def _masked(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return masked(value)
    return public(value) if key in ("tracking_uri", "uri") and isinstance(value, str) else value


def _events_digest(manifest: Manifest) -> str:
    """Content digest of the events that a snapshot was built from."""
    return next((str(one["digest"]) for one in manifest.inputs if one.get("name") == "events" and "digest" in one), "")


def _rows(events: EventsManifest) -> Rows:
    partitions = events.partitions
    return Rows(
        accounts=events.accounts,
        inputs=events.inputs,
        outside_window=events.outside_window,
        first=f"{min(p.min_time for p in partitions):%Y-%m-%d %H:%M}" if partitions else "",
        last=f"{max(p.max_time for p in partitions):%Y-%m-%d %H:%M}" if partitions else "",
    )


def _rows_of_snapshot(manifest: Manifest) -> Rows:
    inputs = tuple(Input.model_validate(one) for one in manifest.inputs if "layout" in one)
    reasons: dict[str, int] = {}
    for one in inputs:
        for reason, n in one.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + n
    counts = {key: manifest.accounts.get(key, 0) for key in ("rows", "events", "duplicates", "quarantined")}
    return Rows(
        accounts=Accounts(**counts, reasons=reasons, blank_lines=sum(one.blank_lines for one in inputs)),
        inputs=inputs,
        outside_window=sum(one.outside_window for one in inputs),
        doubt=REPUBLISHED,
    )


def _checks(s: RetrainSettings, events: EventsManifest) -> list[dict[str, Any]]:
    """What the last validation found, if it was of these events; a delivery that failed leaves its own there."""
    from pipeline.stages.validate import RESULT

    found = read_json(s.paths.data_docs(s.name) / RESULT) or {}
    return list(found["checks"]) if found.get("fingerprint") == events.fingerprint else []
