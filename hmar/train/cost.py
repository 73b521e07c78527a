"""What the processes of one training took: cost.json in its directory, one entry per process that came to its end."""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hmar.atomic import read_json, write_json
from hmar.errors import HmarError

FILE = "cost.json"

_MIB = 2**20


@contextmanager
def counted(directory: Path) -> Iterator[None]:
    """Write down what this process takes until the block ends, however it ends; nothing where there was nothing to do.

    An entry: seconds (wall time), cpu_seconds (of all threads, since the process began), peak_mb (most memory
    resident at a time, MiB), gpu_peak_mb (most that torch held on the GPU, MiB; 0 without one).
    """
    started = time.monotonic()
    done_before = _finished(directory)
    try:
        yield
    finally:
        if not done_before and directory.is_dir():
            entry = {
                "seconds": time.monotonic() - started,
                "cpu_seconds": time.process_time(),
                "peak_mb": peak_memory() / _MIB,
                "gpu_peak_mb": _gpu_peak() / _MIB,
            }
            with suppress(HmarError, OSError):  # a full disk has an error of its own on the way
                write_json(directory / FILE, [*read(directory), entry])


def read(directory: Path) -> list[dict[str, Any]]:
    """The entries, oldest first; none where nothing was written down."""
    entries: list[dict[str, Any]] = read_json(directory / FILE) or []
    return entries


def peak_memory() -> int:
    """Bytes: the most that was resident at a time since this program began."""
    try:
        # Not ru_maxrss, which on Linux begins with what the process that started this one held.
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _gpu_peak() -> int:
    torch = sys.modules.get("torch")
    return int(torch.cuda.max_memory_allocated()) if torch is not None and torch.cuda.is_initialized() else 0


def _finished(directory: Path) -> bool:
    try:
        return bool(json.loads((directory / "run.json").read_text(encoding="utf-8"))["status"] == "finished")
    except (OSError, ValueError, KeyError):
        return False
