"""A disk that is full, or a quota that is reached: one line of error, and the old snapshot is as it was."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmar.data.snapshot import Snapshot
from hmar.errors import StorageError
from pipeline.results import Published
from pipeline.stages.snapshot import build
from pipeline.storage.atomic import TEMPORARY
from tests.support.events import Event, publish_events
from tests.support.tiny_snapshot import random_events, snapshot_run

pytestmark = pytest.mark.slow

SMALL = random_events(20, 30, 300, seed=1)
LARGE = random_events(2_000, 1_000, 80_000, seed=1)


def build_in_child(home: Path, largest_file: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.support.build_snapshot", str(home), str(largest_file)],
        capture_output=True,
        text=True,
        check=False,
    )


def check_refusal(done: subprocess.CompletedProcess[str], reason: str) -> None:
    assert done.returncode == StorageError.exit_code
    assert done.stderr.startswith("error: ")
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


def publish(home: Path, events: list[Event]) -> Published:
    s = snapshot_run(home)
    return publish_events(s.paths.events(s.name), events)


@pytest.mark.parametrize("largest_file", [100, 20_000, 250_000, 600_000])
def test_a_file_that_may_not_grow(tmp_path: Path, largest_file: int) -> None:
    publish(tmp_path, LARGE)
    check_refusal(build_in_child(tmp_path, largest_file), "File too large")
    assert list((tmp_path / "snapshots" / "tiny").iterdir()) == []
    assert build_in_child(tmp_path).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB."""
    where = tmp_path / "disk"
    where.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(where)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("mounting a small file system needs root")
    yield where
    subprocess.run(["umount", str(where)], check=True)


@pytest.mark.parametrize("free", [0, 100_000, 700_000, 1_400_000])
def test_a_full_disk(small_disk: Path, free: int) -> None:
    s = snapshot_run(small_disk)
    old = build(s, publish(small_disk, SMALL))
    published = publish(small_disk, LARGE)
    usage = shutil.disk_usage(small_disk)
    (small_disk / "ballast").write_bytes(bytes(max(0, usage.free - free)))
    check_refusal(build_in_child(small_disk), "No space left on device")
    snapshots = s.paths.snapshots(s.name)
    assert not list(snapshots.glob(f"{TEMPORARY}*"))
    assert Snapshot(old.snapshot).hbi.sum() > 0
    (small_disk / "ballast").unlink()
    assert build(s, published).id != old.id
