"""``kill -9`` at any point of a build: the old state or the new one, and the same bytes when it is run again."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from pipeline.snapshot.verify import damage
from pipeline.storage.atomic import TEMPORARY
from tests.support.events import publish_events
from tests.support.tiny_snapshot import random_events, snapshot_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Published events and a snapshot of them."""
    home = tmp_path_factory.mktemp("reference")
    s = snapshot_run(home)
    publish_events(s.paths.events(s.name), random_events(4_000, 3_000, 80_000, seed=3))
    assert child(home).wait() == 0
    return home


def child(home: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.build_snapshot", str(home)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def contents(home: Path, *kinds: str) -> dict[str, bytes]:
    paths = [path for kind in kinds or ("snapshots", "vocabularies") for path in (home / kind / "tiny").rglob("*")]
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def finished(home: Path) -> list[Path]:
    root = home / "snapshots" / "tiny"
    return [path for path in root.glob("*") if path.is_dir() and not path.name.startswith(TEMPORARY)]


def kill_when(process: subprocess.Popen[str], home: Path, pattern: str, delay: float) -> bool:
    """SIGKILL ``delay`` seconds after a file like ``pattern`` appeared; whether it came before the end."""
    while not any(home.glob(pattern)):
        if process.poll() is not None:
            return False
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("delay", [0.0, 0.03])
@pytest.mark.parametrize(
    "name",
    [
        f"snapshots/tiny/{TEMPORARY}*",
        f"snapshots/tiny/{TEMPORARY}*/users.parquet",
        f"snapshots/tiny/{TEMPORARY}*/events.parquet",
        f"snapshots/tiny/{TEMPORARY}*/arrays/hbi.npy",
        f"snapshots/tiny/{TEMPORARY}*/splits/leave_one_out/targets.parquet",
        f"snapshots/tiny/{TEMPORARY}*/splits/temporal/candidates.parquet",
        f"snapshots/tiny/{TEMPORARY}*/manifest.json",
        f"vocabularies/tiny/*/{TEMPORARY}*/users.parquet",
        "vocabularies/tiny/*/users-*.parquet",
        "vocabularies/tiny/*/manifest.json",
    ],
)
def test_killed_build_leaves_nothing_half_done(tmp_path: Path, home: Path, name: str, delay: float) -> None:
    """A first build: there is no old snapshot."""
    shutil.copytree(home / "events", tmp_path / "events")
    process = child(tmp_path)
    kill_when(process, tmp_path, name, delay)
    process.wait()
    assert all(damage(path) is None for path in finished(tmp_path))
    assert child(tmp_path).wait() == 0
    assert contents(tmp_path) == contents(home)


@pytest.fixture(scope="module")
def seconds(home: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """How long a first build takes here."""
    again = tmp_path_factory.mktemp("timed")
    shutil.copytree(home / "events", again / "events")
    process, start = child(again), time.monotonic()
    assert process.wait() == 0
    return time.monotonic() - start


@pytest.mark.parametrize("share", [Random(n).random() for n in range(30)])
def test_killed_at_thirty_random_instants(tmp_path: Path, home: Path, seconds: float, share: float) -> None:
    shutil.copytree(home / "events", tmp_path / "events")
    process = child(tmp_path)
    time.sleep(share * seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert all(damage(path) is None for path in finished(tmp_path))
    assert child(tmp_path).wait() == 0
    assert contents(tmp_path) == contents(home)


@pytest.mark.parametrize("name", ["events.parquet", "splits/temporal/targets.parquet", "manifest.json"])
def test_killed_build_leaves_the_old_snapshot(tmp_path: Path, home: Path, name: str) -> None:
    """A build over more events beside an older snapshot."""
    shutil.copytree(home, tmp_path, dirs_exist_ok=True)
    old = contents(tmp_path, "snapshots")
    s = snapshot_run(tmp_path)
    publish_events(s.paths.events(s.name), random_events(4_000, 3_000, 90_000, seed=4))
    killed = kill_when(child(tmp_path), tmp_path, f"snapshots/tiny/{TEMPORARY}*/{name}", 0.0)
    now, latest = contents(tmp_path, "snapshots"), "snapshots/tiny/latest.json"
    assert {path: now[path] for path in old if path != latest} == {
        path: content for path, content in old.items() if path != latest
    }
    if killed and len(finished(tmp_path)) == 1:
        assert now[latest] == old[latest]
    assert all(damage(path) is None for path in finished(tmp_path))
    assert child(tmp_path).wait() == 0
    assert len(finished(tmp_path)) == 2
    assert not list((tmp_path / "snapshots" / "tiny").glob(f"{TEMPORARY}*"))
    assert not list((tmp_path / "vocabularies" / "tiny").rglob(f"{TEMPORARY}*"))
