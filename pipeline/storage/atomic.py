"""Publishing files and directories so that a reader, or a crash, never meets half of one.

The pattern is always the same: write beside the destination under a name that starts with ``.tmp-``, fsync, rename,
fsync the parent. What a killed process left under such a name is swept by the next writer.
"""

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hmar.errors import StorageError

TEMPORARY = ".tmp-"


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` by ``text``, durably."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}"
        try:
            with temporary.open("w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
            _fsync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Replace ``path`` by ``content`` as sorted, indented JSON: equal content gives equal bytes."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


@contextmanager
def new_directory(final: Path) -> Iterator[Path]:
    """A temporary directory that becomes ``final`` when the block ends well, and vanishes when it does not.

    If ``final`` exists by then (another process was faster, the content is the same by its name), it is kept.
    """
    with storage_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.parent / f"{TEMPORARY}{final.name}-{uuid.uuid4().hex[:8]}"
        temporary.mkdir()
        try:
            yield temporary
            fsync_tree(temporary)
            try:
                temporary.rename(final)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            _fsync_directory(final.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def sweep(directory: Path) -> None:
    """Delete what killed writers left in ``directory``. Call it only while holding the dataset's lock."""
    for leftover in directory.glob(f"{TEMPORARY}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def fsync_tree(directory: Path) -> None:
    """Flush every file and directory below ``directory`` to the disk."""
    for root, _, files in os.walk(directory):
        for name in files:
            descriptor = os.open(Path(root) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        _fsync_directory(Path(root))


@contextmanager
def storage_errors(where: Path) -> Iterator[None]:
    """Turn what the disk says, directly or through DuckDB or Arrow, into a StorageError that names the place."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM):
            raise StorageError(
                f"{where}: {error.strerror}; nothing was published, free space or fix the volume and run again"
            ) from error
        raise
    except Exception as error:
        if type(error).__module__.startswith("duckdb") and _is_disk_trouble(str(error)):
            raise StorageError(
                f"{where}: {error}; nothing was published, free space or fix the volume and run again"
            ) from error
        raise


def _is_disk_trouble(message: str) -> bool:
    lowered = message.lower()
    return any(sign in lowered for sign in ("no space left", "disk full", "could not write", "read-only file system"))


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
