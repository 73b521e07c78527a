"""SIGKILL at any instant of a delivery that is added: published is what was or what is to be; a rerun ends the same."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.storage.events_store import MANIFEST, files, read_manifest
from tests.faults.test_ingest_kill import kill_when, start
from tests.support.raw_logs import DAY, START, contents, land_and_publish, lines, settings, write

MIDNIGHT = START + 8 * 3600
OLD = [f"{n % 50},{n},1,pv,{MIDNIGHT + n % (8 * DAY)}" for n in range(0, 8 * DAY, 1000)]
NEW = [f"{n % 900},{n * 31 % 10_007},{n % 7},buy,{MIDNIGHT + n * 37 % (3 * DAY)}" for n in range(100_000)]
"""Late rows of the first three days."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, str]]:
    """The published files before and after the second delivery when nothing is killed."""
    folder = tmp_path_factory.mktemp("reference")
    found = []
    for name, rows in (("old.csv", OLD), ("new.csv", NEW)):
        s = settings("taobao", write(folder / name, lines(rows)), folder / "home", ingest={"mode": "append"})
        land_and_publish(s)
        found.append(contents(s.paths.events(s.name)))
    return found[0], found[1]


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A home in which the first delivery is published: raw file of the second one, home, events."""
    s = settings("taobao", write(tmp_path / "old.csv", lines(OLD)), tmp_path / "home", ingest={"mode": "append"})
    land_and_publish(s)
    return write(tmp_path / "new.csv", lines(NEW)), s.paths.root, s.paths.events(s.name)


def old_or_new(events: Path, reference: tuple[dict[str, str], dict[str, str]]) -> str:
    """Which state a reader sees: by the manifest, with every file it names whole."""
    seen = contents(events)
    for name, expected in zip(("old", "new"), reference, strict=True):
        if seen.get(MANIFEST) == expected[MANIFEST]:
            assert len(files(read_manifest(events), events)) == 8
            assert all(seen[path] == digest for path, digest in expected.items())
            return name
    pytest.fail("the manifest is neither the old nor the new one")


def finish(raw: Path, home: Path, events: Path, expected: dict[str, str]) -> None:
    """Run again; the end is what an undisturbed run ends with, and nothing is left behind."""
    s = settings("taobao", raw, home, ingest={"mode": "append"})
    untouched = {path: path.stat() for path in events.glob("event_date=2017-12-*/*")}
    land_and_publish(s)
    assert contents(events) == expected
    assert not [path for path in home.rglob("*") if path.name.startswith(".tmp-")]
    assert len(untouched) == 2
    for path, before in untouched.items():
        assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def instants(home: Path, events: Path) -> dict[str, Callable[[], bool]]:
    staging = home / "staging" / "taobao"
    old = {path.name for path in staging.glob("*")}
    published = len(list(events.glob("event_date=*/*.parquet")))
    return {
        "reading": lambda: any(staging.glob(".tmp-spill-*")),
        "partition half written": lambda: any(staging.glob(".tmp-*/event_date=*/writing.parquet")),
        "staged": lambda: any(p.name not in old for p in staging.glob("*") if not p.name.startswith(".tmp-")),
        "first file published": lambda: len(list(events.glob("event_date=*/*.parquet"))) > published,
        "manifest swapped": lambda: "new.csv" in (events / MANIFEST).read_text(encoding="utf-8"),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "instant", ["reading", "partition half written", "staged", "first file published", "manifest swapped"]
)
def test_killed_at_an_instant(
    published: tuple[Path, Path, Path], reference: tuple[dict[str, str], dict[str, str]], instant: str
) -> None:
    raw, home, events = published
    killed = kill_when(start(raw, home, "append"), instants(home, events)[instant])
    seen = old_or_new(events, reference)
    if instant in ("reading", "partition half written"):
        assert killed
        assert seen == "old"
    finish(raw, home, events, reference[1])


@pytest.mark.slow
@pytest.mark.parametrize("share", [n / 8 for n in range(8)])
def test_killed_at_any_share_of_its_time(
    published: tuple[Path, Path, Path], reference: tuple[dict[str, str], dict[str, str]], share: float
) -> None:
    raw, home, events = published
    child = start(raw, home, "append")
    while child.poll() is None and not any((home / "staging" / "taobao").glob(".tmp-*")):
        time.sleep(0.001)
    until = time.monotonic() + share * 1.5
    kill_when(child, lambda: time.monotonic() >= until)
    old_or_new(events, reference)
    finish(raw, home, events, reference[1])
