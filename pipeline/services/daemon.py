"""Background processes that outlive the command that started them, and can be found and ended to the last child."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from hmar.errors import ServiceError
from pipeline.storage.atomic import write_json

MARK = "SERVED_BY_HMAR"
"""Environment variable that every process of ours, and every process it starts, carries: home and service."""


@dataclass(frozen=True)
class Daemon:
    """One service of one home; ``directory`` holds its pid file and its log."""

    name: str
    directory: Path

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        return self.directory / f"{self.name}.pid"

    @property
    def mark(self) -> str:
        return f"{self.directory.absolute()}:{self.name}"

    def start(
        self, command: Sequence[str], environment: Mapping[str, str], *, user: str | None = None
    ) -> psutil.Process:
        """Start it in a session of its own, output appended to its log.

        Raises:
            ServiceError: the program cannot be started.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            try:
                started = subprocess.Popen(
                    list(command),
                    env={**environment, MARK: self.mark},
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    user=user,
                )
            except OSError as error:
                raise ServiceError(f"{self.name}: {command[0]}: {error.strerror}") from None
        process = psutil.Process(started.pid)
        write_json(self.pid_file, {"pid": process.pid, "started": process.create_time(), "boot": _boot()})
        return process

    def process(self) -> psutil.Process | None:
        """The process that was started, if it is alive."""
        try:
            record = json.loads(self.pid_file.read_text(encoding="utf-8"))
            process = psutil.Process(int(record["pid"]))
            # Ids recur: only the time of birth says that it is still the same process.
            same = process.create_time() == record["started"] and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
            return None
        return process if same else None

    def session(self) -> set[psutil.Process]:
        """Every process in the session that was made for it, the first one alive or not."""
        try:
            record = json.loads(self.pid_file.read_text(encoding="utf-8"))
            leader = int(record["pid"])
            if record["boot"] != _boot():
                return set()
            if psutil.pid_exists(leader) and psutil.Process(leader).create_time() != record["started"]:
                return set()
        except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
            return set()
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if os.getsid(process.pid) == leader:
                    found.add(process)
        return found

    def last_words(self, lines: int = 5) -> str:
        """The end of its log."""
        try:
            text = self.log.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def stop(
    daemons: Iterable[Daemon], *, first: signal.Signals = signal.SIGTERM, seconds: float = 8, grace: float = 30
) -> int:
    """End services with all their descendants, reparented ones included; returns how many processes there were.

    The services are asked with ``first`` and, at the same time, what they started in sessions of its own (trainings,
    which end in a checkpoint) with SIGTERM. What is left after ``seconds`` is told SIGTERM, and is killed after as
    long again; a training has ``grace`` seconds.
    """
    daemons = list(daemons)
    roots = [process for daemon in daemons if (process := daemon.process())]
    found = _family(daemons, roots)
    apart = found - set().union(*(daemon.session() for daemon in daemons)) - set(roots)
    _signal(roots, first)
    _signal(apart, signal.SIGTERM)
    psutil.wait_procs(roots, timeout=seconds)
    left = _family(daemons, roots) | found
    late = {process for process in left - apart if process.is_running()}
    _signal(late, signal.SIGTERM)
    psutil.wait_procs(late, timeout=seconds)
    psutil.wait_procs(apart, timeout=grace)
    _signal(left, signal.SIGKILL)
    psutil.wait_procs(left, timeout=seconds)
    for daemon in daemons:
        daemon.pid_file.unlink(missing_ok=True)
    return len(found)


def processes(daemons: Iterable[Daemon]) -> set[psutil.Process]:
    """Every process of these services: in their sessions, or outside them with their mark.

    Neither would do alone: a training has a session of its own, and Airflow's processes overwrite their environment
    with the title that ``ps`` shows.
    """
    daemons = list(daemons)
    marks = {daemon.mark for daemon in daemons}
    found = set().union(*(daemon.session() for daemon in daemons))
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) in marks and process.pid != os.getpid():
                found.add(process)
    return found


def _family(daemons: Sequence[Daemon], roots: Iterable[psutil.Process]) -> set[psutil.Process]:
    family = processes(daemons) | set(roots)
    for process in list(family):
        with contextlib.suppress(psutil.Error):
            family.update(process.children(recursive=True))
    return {process for process in family if process.pid != os.getpid()}


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def _boot() -> str:
    """Names the time since this machine started: process ids mean nothing beyond it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
