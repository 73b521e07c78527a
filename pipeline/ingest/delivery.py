"""The identity of a delivery: what was given, and the settings and code that decide what becomes of it."""

import hashlib
import json
import re
import string
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path
from typing import Any, NamedTuple

from hmar import __version__
from hmar.errors import DataError, StorageError
from pipeline.ingest.raw_path import given
from pipeline.settings import RetrainSettings
from pipeline.sources import SOURCES, RawFile, Source, delivery
from pipeline.storage.events_store import SCHEMA_VERSION
from pipeline.storage.statements import digest

_JUDGING = {"max_quarantined_share", "max_quarantined_rows"}
"""Ingest settings that decide whether events are published, not which."""


class Content(NamedTuple):
    """A raw file as far as the events depend on it."""

    name: str
    sha256: str
    joined_sha256: str | None = None


@dataclass(frozen=True)
class Identified:
    """A raw file with its bytes' identity."""

    file: RawFile
    bytes: int
    sha256: str
    changed: int
    """Modification time in nanoseconds when it was hashed."""
    joined: "Identified | None" = None
    """The file that its rows are joined with, where the layout names one."""

    @property
    def content(self) -> Content:
        return Content(self.file.name, self.sha256, self.joined.sha256 if self.joined else None)


def delivered(s: RetrainSettings, origin: Source) -> list[RawFile]:
    """The files that ``raw`` stands for, by name.

    Where they are appended, their names tell deliveries apart: a directory comes before the names of its files, and a
    path with ``{date}`` in it is told from there on (``/logs/{date}/log.csv`` delivers ``2017-11-25/log.csv``).

    Raises:
        DataError: nothing there, nothing in it, or not of this source. SettingsError: raw needs a day.
    """
    raw = given(s)
    files = delivery(origin, raw)
    if s.ingest.mode == "replace":
        return files
    fixed = next(iter(string.Formatter().parse(str(s.raw))))[0]
    if fixed != str(s.raw):
        base = Path(f"{fixed}_").parent
        named = [replace(file, name=file.path.relative_to(base).as_posix()) for file in files]
    elif raw.is_dir():
        named = [replace(file, name=f"{raw.resolve().name}/{file.name}") for file in files]
    else:
        named = files
    return sorted(named, key=lambda file: file.name)


def identify(files: Sequence[RawFile]) -> list[Identified]:
    """Hash the raw files, side by side.

    Raises:
        DataError: one cannot be read.
    """
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(_identify, files))


def check_unchanged(identified: Sequence[Identified]) -> None:
    """Refuse files that were written to since they were hashed.

    Raises:
        StorageError: one was; it is retryable, the delivery may be whole by then.
    """
    for one in (*identified, *(one.joined for one in identified if one.joined)):
        now = one.file.path.stat()
        if (now.st_size, now.st_mtime_ns) != (one.bytes, one.changed):
            raise StorageError(
                f"{one.file.path}: changed while it was read; nothing was published, run again when it is complete"
            )


def shaping_settings(s: RetrainSettings) -> dict[str, Any]:
    """The settings that decide which events are published, of whatever files."""
    return {
        "source": s.source,
        "table": s.table and s.table.reading,
        "ingest": _ingest(s, _JUDGING),
    }


def deciding_settings(s: RetrainSettings) -> dict[str, Any]:
    """The settings that decide which events are published, or whether; how files are delivered does not."""
    return {
        **shaping_settings(s),
        "ingest": _ingest(s, set()),
        "expectations": s.expectations.model_dump(mode="json"),
        "target": s.snapshot.target,
    }


def shaping_sql(source: str) -> str:
    """sha256 of the statements that decide which events a log of that source becomes."""
    return digest("ingest", lambda name: _concerns(name, source) and int(name[:2]) < 60)


def fingerprint(s: RetrainSettings, contents: Iterable[Content]) -> str:
    """sha256 over the set of raw files (names and contents), the deciding settings, the SQL and the versions."""
    parts = {
        "files": sorted(map(list, contents)),
        "settings": deciding_settings(s),
        "sql": digest("ingest", lambda name: _concerns(name, s.source)),
        "schema": SCHEMA_VERSION,
        "code": __version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def staged(staging: Path, fingerprint: str) -> Path:
    """Where the delivery of that fingerprint is staged."""
    return staging / fingerprint[:16]


def quarantine_of(s: RetrainSettings, contents: Iterable[Content]) -> Path:
    """Where the rejected rows of these files go: a name that changes with what decides which rows are rejected."""
    parts = [sorted(map(list, contents)), shaping_settings(s), shaping_sql(s.source), __version__]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return s.paths.quarantine(s.name) / f"{key[:16]}.parquet"


def _ingest(s: RetrainSettings, left_out: set[str]) -> dict[str, Any]:
    moments = {"since": s.ingest.since, "until": s.ingest.until}
    return {
        **s.ingest.model_dump(mode="json", exclude={"mode", *left_out}),
        **{name: moment and moment.astimezone(UTC).isoformat() for name, moment in moments.items()},
    }


def _concerns(statement: str, source: str) -> bool:
    """Whether a statement is of this source or of all sources."""
    others = "|".join(sorted({*SOURCES, "table"} - {source}))
    return re.match(rf"\d+_({others})[_.]", statement) is None


def _identify(file: RawFile) -> Identified:
    try:
        status = file.path.stat()
        with file.path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{file.path}: {error.strerror}; give a file that can be read") from None
    beside = file.layout.joined
    joined = _identify(RawFile(beside, beside.name, replace(file.layout, joined=None))) if beside else None
    return Identified(file, status.st_size, sha256, status.st_mtime_ns, joined)
