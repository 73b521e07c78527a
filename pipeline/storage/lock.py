"""One writer per dataset. The lock is the kernel's, so it dies with its process, however that died."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from hmar.errors import BusyError


@contextmanager
def dataset_lock(path: Path, what: str) -> Iterator[None]:
    """Hold the lock while the block runs.

    Raises:
        BusyError: another process holds it; the message says who and since when.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    holder = path.with_suffix(".holder")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            who = holder.read_text(encoding="utf-8").strip()
        except OSError:
            who = "unknown"
        raise BusyError(f"{path}: another run is writing ({who}); this one did nothing, run it again later") from None
    try:
        since = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        holder.write_text(f"{what}, process {os.getpid()} on {socket.gethostname()} since {since}\n", encoding="utf-8")
        yield
    finally:
        lock.release()
