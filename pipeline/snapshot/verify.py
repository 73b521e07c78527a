"""Whether a snapshot on the disk is still the one that was written."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hmar.data.snapshot import Snapshot
from hmar.errors import DataError

MANIFEST = "manifest.json"


def checksums(directory: Path) -> dict[str, str]:
    """sha256 of every file below ``directory`` but the manifest, by relative path."""
    paths = [path for path in sorted(directory.rglob("*")) if path.is_file() and path != directory / MANIFEST]
    with ThreadPoolExecutor() as threads:
        return {
            path.relative_to(directory).as_posix(): digest
            for path, digest in zip(paths, threads.map(_sha256, paths), strict=True)
        }


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def damage(directory: Path) -> str | None:
    """What is wrong with the snapshot in ``directory``, in words; None where every byte is as its manifest says."""
    try:
        manifest = Snapshot(directory).manifest
    except DataError as error:
        return str(error)
    except ValueError:
        return f"{directory / MANIFEST}: not a manifest of this version"
    if manifest.id != directory.name:
        return f"{directory / MANIFEST}: belongs to the snapshot {manifest.id}"
    found = checksums(directory)
    for name, expected in manifest.files.items():
        if found.get(name) != expected:
            return f"{directory / name}: {'changed' if name in found else 'missing'}"
    return None
