"""What to tell those who wait for a dataset's events: which partitions are others than when they were told last.

What was told is kept beside the events and written only after the telling, so a run that is killed between publishing
and telling loses nothing: the next one tells it. Listeners hear of every change at least once.
"""

from pathlib import Path
from typing import Any

from pipeline.results import Changes
from pipeline.settings import RetrainSettings
from pipeline.storage.atomic import read_json, storage_errors, write_json
from pipeline.storage.events_store import read_manifest


def changes(s: RetrainSettings) -> Changes:
    """The published events against what :func:`settle` wrote last. Content counts: rows that only moved to another
    raw file change nothing.

    Raises:
        DataError: no events are published.
    """
    manifest = read_manifest(s.paths.events(s.name))
    told = _told(s.paths.announced(s.name))
    now = {partition.event_date.isoformat(): partition for partition in manifest.partitions}
    before = told.get("partitions", {})
    days = [day for day in sorted({*now, *before}) if day not in now or before.get(day) != now[day].content_digest]
    return Changes(
        digest=manifest.digest,
        changed=told.get("digest") != manifest.digest,
        partitions={day: now[day].content_digest if day in now else "" for day in days},
        events={day: now[day].rows if day in now else 0 for day in days},
        accounts=manifest.accounts,
    )


def settle(s: RetrainSettings, told: Changes, *, partitions: bool = True) -> None:
    """Remember that ``told`` has been told.

    Args:
        partitions: whether those who wait for single partitions were told, too.
    """
    file = s.paths.announced(s.name)
    known = _told(file).get("partitions", {}) | (told.partitions if partitions else {})
    known = {day: digest for day, digest in known.items() if digest}
    with storage_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"digest": told.digest, "partitions": known})


def _told(file: Path) -> dict[str, Any]:
    """The last state that was told; empty before the first, or where the file is none of ours: then all is told."""
    content = read_json(file)
    return content if isinstance(content, dict) else {}
