"""The identity of a delivery: what was given, and the settings and code that decide what becomes of it."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hmar import __version__
from hmar.errors import DataError, StorageError
from pipeline.settings import RetrainSettings
from pipeline.sources import RawFile
from pipeline.storage.events_store import SCHEMA_VERSION
from pipeline.storage.statements import digest


@dataclass(frozen=True)
class Identified:
    """A raw file with its bytes' identity."""

    file: RawFile
    bytes: int
    sha256: str
    changed: int
    """Modification time in nanoseconds when it was hashed."""


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
    for one in identified:
        now = one.file.path.stat()
        if (now.st_size, now.st_mtime_ns) != (one.bytes, one.changed):
            raise StorageError(
                f"{one.file.path}: changed while it was read; nothing was published, run again when it is complete"
            )


def deciding_settings(s: RetrainSettings) -> dict[str, Any]:
    """The settings that decide which events are published, or whether."""
    return {
        "source": s.source,
        "ingest": s.ingest.model_dump(mode="json"),
        "expectations": s.expectations.model_dump(mode="json"),
        "target": s.snapshot.target,
    }


def fingerprint(s: RetrainSettings, identified: Sequence[Identified]) -> str:
    """sha256 over the raw files' names and contents, the deciding settings, the SQL and the versions."""
    parts = {
        "files": [[one.file.name, one.sha256] for one in identified],
        "settings": deciding_settings(s),
        "sql": digest("ingest"),
        "schema": SCHEMA_VERSION,
        "code": __version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _identify(file: RawFile) -> Identified:
    try:
        status = file.path.stat()
        with file.path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{file.path}: {error.strerror}; give a file that can be read") from None
    return Identified(file, status.st_size, sha256, status.st_mtime_ns)


def delivery_key(fingerprint: str) -> str:
    """The fingerprint as a short name of files and directories."""
    return fingerprint[:16]


def staged(staging: Path, fingerprint: str) -> Path:
    """Where the delivery of that fingerprint is staged."""
    return staging / delivery_key(fingerprint)
