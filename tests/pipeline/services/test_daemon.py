"""Background processes are found again and ended with all that came of them. Real processes throughout."""

import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from hmar.errors import ServiceError
from pipeline.services.daemon import Daemon, processes, stop
from tests.support.airflow_runs import wait_for

FAMILY = """
import os, subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
one = subprocess.Popen(sleep)
away = subprocess.Popen(sleep, start_new_session=True)
print(one.pid, away.pid, flush=True)
time.sleep(600)
"""

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""


def started(daemon: Daemon, code: str) -> psutil.Process:
    """The daemon, once it has printed its first line."""
    process = daemon.start([sys.executable, "-c", code], os.environ)
    wait_for("it prints nothing", lambda: daemon.last_words().strip(), 20)
    return process


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_ends_the_whole_family(tmp_path: Path) -> None:
    daemon = Daemon("family", tmp_path)
    root = started(daemon, FAMILY)
    family = [root, *root.children()]
    assert len(family) == 3
    assert processes([daemon]) == set(family)
    assert daemon.process() == root
    assert stop([daemon], seconds=5) == 3
    assert all(map(gone, family))
    assert daemon.process() is None


def test_finds_orphans_in_and_out_of_the_session(tmp_path: Path) -> None:
    daemon = Daemon("family", tmp_path)
    root = started(daemon, FAMILY)
    orphans = root.children()
    root.kill()
    wait_for("it still runs", lambda: gone(root), 10)
    assert not any(map(gone, orphans))
    assert processes([daemon]) - {root} == set(orphans)
    stop([daemon], seconds=5)
    assert all(map(gone, orphans))


def test_kills_what_does_not_listen(tmp_path: Path) -> None:
    daemon = Daemon("stubborn", tmp_path)
    root = started(daemon, STUBBORN)
    stop([daemon], first=signal.SIGTERM, seconds=0.5)
    assert gone(root)


def test_leaves_other_homes_alone(tmp_path: Path) -> None:
    ours, theirs = Daemon("same", tmp_path / "a"), Daemon("same", tmp_path / "b")
    first, second = started(ours, FAMILY), started(theirs, FAMILY)
    stop([ours], seconds=5)
    assert gone(first)
    assert theirs.process() == second
    assert len(processes([theirs])) == 3
    stop([theirs], seconds=5)


def test_a_recycled_process_id_is_nobody(tmp_path: Path) -> None:
    daemon = Daemon("old", tmp_path)
    here = psutil.Process()
    boot = Path("/proc/sys/kernel/random/boot_id")
    record = {
        "pid": here.pid,
        "started": here.create_time() - 5,
        "boot": boot.read_text().strip() if boot.exists() else "",
    }
    daemon.pid_file.write_text(json.dumps(record))
    assert daemon.process() is None
    assert daemon.session() == set()
    assert stop([daemon]) == 0


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="ghost: /no/such/program"):
        Daemon("ghost", tmp_path).start(["/no/such/program"], os.environ)
