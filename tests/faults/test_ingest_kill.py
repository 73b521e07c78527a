"""SIGKILL at any instant of an ingest: published is the old delivery or the new one, and a rerun ends the same."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from pipeline.storage.events_store import MANIFEST, files, read_manifest
from tests.support.raw_logs import DAY, START, contents, land_and_publish, lines, settings, write

OLD = [f"{n % 50},{n},1,pv,{START + n % (9 * DAY)}" for n in range(500)]
NEW = [f"{n % 900},{n * 31 % 10_007},{n % 7},buy,{START + n * 37 % (9 * DAY)}" for n in range(150_000)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, str]]:
    """The files of both deliveries when nothing is killed."""
    folder = tmp_path_factory.mktemp("reference")
    found = []
    for name, rows in (("old", OLD), ("new", NEW)):
        s = settings("taobao", write(folder / name / "UserBehavior.csv", lines(rows)), folder / f"home-{name}")
        land_and_publish(s)
        found.append(contents(s.paths.events(s.name)))
    return found[0], found[1]


def kill_when(child: subprocess.Popen[bytes], instant: Callable[[], bool]) -> bool:
    """SIGKILL the child's group as soon as ``instant`` holds; whether it died of that."""
    while child.poll() is None and not instant():
        time.sleep(0.0005)
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    return child.wait() == -signal.SIGKILL


def start(raw: Path, home: Path, *rest: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.support.ingest_child", str(raw), str(home), *rest]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def old_or_new(events: Path, reference: tuple[dict[str, str], dict[str, str]]) -> str:
    """Which delivery a reader sees: by the manifest, with every file it names whole."""
    seen = contents(events)
    for name, expected in zip(("old", "new"), reference, strict=True):
        if seen.get(MANIFEST) == expected[MANIFEST]:
            assert {path.relative_to(events).as_posix() for path in files(read_manifest(events), events)} <= set(seen)
            assert all(seen[path] == digest for path, digest in expected.items())
            return name
    pytest.fail("the manifest is neither the old nor the new one")


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A home in which the old delivery is published: raw file (of the new one), home, events."""
    raw = tmp_path / "UserBehavior.csv"
    s = settings("taobao", write(raw, lines(OLD)), tmp_path / "home")
    land_and_publish(s)
    write(raw, lines(NEW))
    return raw, s.paths.root, s.paths.events(s.name)


def instants(home: Path, events: Path) -> dict[str, Callable[[], bool]]:
    staging = home / "staging" / "taobao"

    def staged() -> list[Path]:
        return [path for path in staging.glob("*") if not path.name.startswith(".tmp-")]

    old = {path.name for path in staged()}
    published = len(list(events.glob("event_date=*/*.parquet")))
    return {
        "reading": lambda: any(staging.glob(".tmp-spill-*")),
        "first partition half written": lambda: any(staging.glob(".tmp-*/event_date=*/writing.parquet")),
        "last partitions": lambda: len(list(staging.glob(".tmp-*/event_date=*"))) >= 8,
        "staged": lambda: any(path.name not in old for path in staged()),
        "first file published": lambda: len(list(events.glob("event_date=*/*.parquet"))) > published,
        "manifest swapped": lambda: "buy" in (events / MANIFEST).read_text(encoding="utf-8"),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "instant",
    [
        "reading",
        "first partition half written",
        "last partitions",
        "staged",
        "first file published",
        "manifest swapped",
    ],
)
def test_killed_ingest_leaves_old_or_new_and_a_rerun_ends_the_same(
    published: tuple[Path, Path, Path], reference: tuple[dict[str, str], dict[str, str]], instant: str
) -> None:
    raw, home, events = published
    before = old_or_new(events, reference)
    assert before == "old"
    killed = kill_when(start(raw, home), instants(home, events)[instant])
    seen = old_or_new(events, reference)
    if instant in ("reading", "first partition half written", "last partitions"):
        assert killed
        assert seen == "old"

    s = settings("taobao", raw, home)
    land_and_publish(s)
    assert contents(events) == reference[1]
    assert not [path for path in home.rglob("*") if path.name.startswith(".tmp-")]


@pytest.mark.slow
@pytest.mark.parametrize("share", [Random(n).random() for n in range(30)])
def test_killed_at_thirty_random_instants(
    published: tuple[Path, Path, Path], reference: tuple[dict[str, str], dict[str, str]], share: float
) -> None:
    raw, home, events = published
    child = start(raw, home)
    while child.poll() is None and not any((home / "staging" / "taobao").glob(".tmp-*")):
        time.sleep(0.001)
    until = time.monotonic() + share * 1.5
    kill_when(child, lambda: time.monotonic() >= until)
    old_or_new(events, reference)
    land_and_publish(settings("taobao", raw, home))
    assert contents(events) == reference[1]
    assert not [path for path in home.rglob("*") if path.name.startswith(".tmp-")]


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6, 0.8, 0.95])
def test_killed_validation_can_be_repeated(
    published: tuple[Path, Path, Path], reference: tuple[dict[str, str], dict[str, str]], share: float
) -> None:
    """The Great Expectations project too survives a kill: the next run judges, renders and publishes."""
    from pipeline.stages.ingest import land
    from pipeline.stages.validate import validate

    raw, home, events = published
    project = home / "data_docs" / "taobao"
    child = start(raw, home, "validate")
    while child.poll() is None and not project.exists():
        time.sleep(0.002)
    until = time.monotonic() + share * 3
    kill_when(child, lambda: time.monotonic() >= until)
    old_or_new(events, reference)
    s = settings("taobao", raw, home)
    for _ in range(2):
        done = validate(s, land(s))
    assert done.data_docs is None or done.data_docs.is_file()
    assert contents(events) == reference[1]
