"""What a command costs: wall time, processor time and peak memory of a child process and all of its children."""

import os
import platform
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from hmar.errors import HmarError
from hmar.tracking.environment import processor

INTERVAL = 0.02
"""Seconds between two looks at the memory of the process tree."""
KILOBYTE = 1 if sys.platform == "darwin" else 1024
"""Unit of ``ru_maxrss``."""
MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class Cost:
    """What one run of a command took."""

    seconds: float
    """Wall time, start of the process included."""
    cpu_seconds: float
    """User and system time of the process and the children it waited for."""
    peak_rss: int
    """Bytes resident at the same time in the process and its children."""

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s, {self.cpu_seconds:.2f} s of processor, {gib(self.peak_rss)} at peak"


def run(
    command: Sequence[str], environment: Mapping[str, str] | None = None, directory: Path | None = None
) -> tuple[Cost, str]:
    """Run a command to its end.

    Args:
        environment: added to this process's. directory: to run it in.

    Returns:
        The cost, and what the command wrote to standard output.

    Raises:
        HmarError: it failed; the end of its standard error is in the message.
    """
    # Files, not pipes: a full pipe would stop the child.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        child = subprocess.Popen(
            command, stdout=out, stderr=err, env={**os.environ, **(environment or {})}, cwd=directory
        )
        sampler = _Sampler(child.pid)
        sampler.start()
        try:
            # wait4 rather than child.wait(): it alone tells the peak that the kernel itself has seen.
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.send_signal(signal.SIGKILL)
            raise
        finally:
            sampler.stop()
        seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        output, errors = out.read(), err.read()
    if child.returncode != 0:
        what = textwrap.shorten(" ".join(command), 200)
        raise HmarError(f"{what} ended with {child.returncode}: {errors.strip()[-2000:]}")
    peak = max(sampler.peak, usage.ru_maxrss * KILOBYTE)
    return Cost(seconds, usage.ru_utime + usage.ru_stime, peak), output


def best(costs: Sequence[Cost]) -> Cost:
    """The least wall time and processor time of several runs of one command, and the largest of their peaks."""
    return Cost(
        min(cost.seconds for cost in costs),
        min(cost.cpu_seconds for cost in costs),
        max(cost.peak_rss for cost in costs),
    )


def gib(size: int) -> str:
    """Bytes in words: "1.23 GiB"."""
    return f"{size / GIB:.2f} GiB"


def machine() -> str:
    """Processor, cores, memory, system and versions in one line, without the machine's name."""
    import duckdb

    memory = psutil.virtual_memory().total
    return (
        f"{processor()}, {os.cpu_count()} cores, {gib(memory)} memory, {platform.system()}, "
        f"Python {platform.python_version()}, DuckDB {duckdb.__version__}"
    )


class _Sampler(threading.Thread):
    """Looks at the memory of a process tree until it is stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        """Most bytes seen at one time."""
        self._pid = pid
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(INTERVAL):
            self.peak = max(self.peak, _resident(self._pid))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def _resident(pid: int) -> int:
    total = 0
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
    except psutil.NoSuchProcess:
        pass
    return total
