"""Two runs at once on one dataset: one wins, the other says so, names the winner and has done nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hmar.errors import BusyError
from pipeline.storage.events_store import read_manifest
from tests.support.raw_logs import DAY, START, contents, lines, settings, write

pytestmark = pytest.mark.slow

ROWS = [
    f"{n % 900},{n * 31 % 10_007},{n % 7},{'buy' if n % 9 == 0 else 'pv'},{START + n * 37 % (9 * DAY)}"
    for n in range(150_000)
]


def start(home: Path, command: str, *flags: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", command, "--home", str(home), "--dataset", "taobao", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def halted(process: "subprocess.Popen[str]", home: Path, pattern: str) -> Iterator[None]:
    """The process, stopped while a file like ``pattern`` is there; it goes on after the block."""
    while not any(home.glob(pattern)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def check_refused(second: "subprocess.Popen[str]", first: "subprocess.Popen[str]", stage: str) -> None:
    _, said = second.communicate(timeout=60)
    assert second.returncode == BusyError.exit_code
    (line,) = said.splitlines()
    assert line.startswith("error: ")
    assert f"another run is writing ({stage}, process {first.pid} on " in line
    assert "run it again later" in line


def test_one_ingest_and_one_snapshot_win(tmp_path: Path) -> None:
    home = tmp_path / "home"
    raw = write(tmp_path / "UserBehavior.csv", lines(ROWS))
    first = start(home, "ingest", "--raw", str(raw))
    with halted(first, home, "staging/taobao/.tmp-*"):
        check_refused(start(home, "ingest", "--raw", str(raw)), first, "ingest")
    out, said = first.communicate(timeout=120)
    assert first.returncode == 0, said
    assert "published" in out
    events = settings("taobao", raw, home).paths.events("taobao")
    assert read_manifest(events).accounts.rows == len(ROWS)
    before = contents(events)

    first = start(home, "snapshot")
    with halted(first, home, "snapshots/taobao/.tmp-*/events.parquet"):
        check_refused(start(home, "snapshot"), first, "snapshot")
        check_refused(start(home, "ingest", "--raw", str(raw)), first, "snapshot")
    _, said = first.communicate(timeout=120)
    assert first.returncode == 0, said
    assert contents(events) == before
    assert not [path for path in home.rglob("*") if path.name.startswith(".tmp-")]
