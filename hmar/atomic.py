"""Publishing files and directories so that a reader, or a crash, never meets half of one.

The pattern is always the same: write beside the destination under a name that starts with ``.tmp-``, fsync, rename,
fsync the parent. What a killed process left under such a name is swept by the next writer.
"""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hmar.errors import StorageError

TEMPORARY = ".tmp-"

FLUSHES = 16
"""Files that wait for the disk at the same time."""


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text``, durably."""
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """The name of a temporary file to write; it takes the place of ``path`` when the block ends well."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}"
        try:
            yield temporary
            publish_file(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def publish_file(temporary: Path, final: Path) -> None:
    """Flush a written file to the disk and give it its name, replacing what had it."""
    _flush(temporary)
    temporary.replace(final)
    _flush(final.parent)


def write_json(path: Path, content: Any) -> None:
    """Replace ``path`` by ``content`` as sorted, indented JSON: equal content gives equal bytes."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """What ``path`` holds; None where it is not there or no JSON, for files that are made again without harm."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextmanager
def new_directory(final: Path, replace: bool = False) -> Iterator[Path]:
    """A temporary directory that becomes ``final`` when the block ends well, and vanishes when it does not.

    If ``final`` exists by then (another process was faster, the content is the same by its name), it is kept;
    with ``replace`` it is deleted first, and a crash between the two renames leaves none.
    """
    with storage_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.parent / f"{TEMPORARY}{final.name}-{uuid.uuid4().hex[:8]}"
        old = final.parent / f"{temporary.name}-old"
        temporary.mkdir()
        try:
            yield temporary
            fsync_tree(temporary)
            if replace and final.exists():
                final.rename(old)
            try:
                temporary.rename(final)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            _flush(final.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def sweep(directory: Path) -> None:
    """Delete what killed writers left in ``directory``. Call it only while holding the dataset's lock."""
    for leftover in directory.glob(f"{TEMPORARY}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def flush(paths: Iterable[Path]) -> None:
    """Flush files and directories to the disk, side by side: a disk takes many in little more time than one."""
    with ThreadPoolExecutor(FLUSHES) as pool:
        list(pool.map(_flush, paths))


def fsync_tree(directory: Path) -> None:
    """Flush every file and directory below ``directory`` to the disk."""
    tree = list(os.walk(directory))
    flush(Path(root) / name for root, _, files in tree for name in files)
    flush(Path(root) for root, _, _ in tree)


_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM)


@contextmanager
def storage_errors(where: Path) -> Iterator[None]:
    """Turn what the disk says, directly or through DuckDB or Arrow, into a StorageError that names the place."""
    try:
        yield
    except OSError as error:
        if error.errno in _REFUSALS:
            raise _refused(where, os.strerror(error.errno)) from error
        raise
    except Exception as error:
        if type(error).__module__.lstrip("_").startswith("duckdb"):
            reason = _disk_trouble(str(error))
            if reason:
                raise _refused(where, reason) from error
        raise


def _refused(where: Path, reason: str) -> StorageError:
    return StorageError(f"{where}: {reason}; nothing was published, free space or fix the volume and run again")


def _disk_trouble(message: str) -> str | None:
    """The reason in a message of DuckDB's, where it is one of the disk's."""
    lowered = message.lower()
    for code in _REFUSALS:
        if os.strerror(code).lower() in lowered:
            return os.strerror(code)
    # DuckDB's own words for a full temporary directory, and for a write it cannot explain.
    if "max_temp_directory_size" in lowered:
        return "no space left for temporary files"
    return "could not write" if "could not write" in lowered or "disk full" in lowered else None


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
