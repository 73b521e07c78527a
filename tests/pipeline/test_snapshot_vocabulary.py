"""Dense ids stay from snapshot to snapshot: users and items that arrive are appended, late rows included."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hmar.data.snapshot import PARTS, Snapshot
from hmar.errors import DataError
from hmar.evaluate.adapt import Adapted, adapt
from hmar.evaluate.judge import judge
from hmar.export import load, save
from pipeline.results import Built
from pipeline.stages.snapshot import build
from tests.support.events import Event, publish_events
from tests.support.tiny_snapshot import random_events, snapshot_run
from tests.support.untrained import untrained

LOG = sorted(random_events(40, 60, 1500, seed=1, span=1000), key=lambda event: event[3])
LATE: list[Event] = [(7, 3, "view", 10), (7, 3, "buy", 20), (8, 4, "buy", 10.5), (100, 1000, "buy", -5)]
"""Unknown users and items long before most of the log, and an earlier first event of known ones."""


def take(home: Path, events: list[Event], **options: Any) -> Built:
    s = snapshot_run(home, **{"candidates": 5, **options})
    return build(s, publish_events(s.paths.events(s.name), events))


def ids(built: Built) -> tuple[list[Any], list[Any]]:
    snapshot = Snapshot(built.snapshot)
    return snapshot.users["user_id"].to_pylist(), snapshot.items["item_id"].to_pylist()


def vocabulary_files(home: Path) -> dict[str, bytes]:
    root = home / "vocabularies"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def snapshot_files(built: Built) -> dict[str, bytes]:
    return {p.relative_to(built.snapshot).as_posix(): p.read_bytes() for p in built.snapshot.rglob("*") if p.is_file()}


def test_a_fresh_home_counts_by_time(tmp_path: Path) -> None:
    users, items = ids(take(tmp_path, LOG[::-1]))
    assert users == list(dict.fromkeys(event[0] for event in sorted(LOG, key=lambda event: (event[3], event[0]))))
    assert items == list(dict.fromkeys(event[1] for event in sorted(LOG, key=lambda event: (event[3], event[1]))))


def test_days_in_order_give_the_ids_of_one_build(tmp_path: Path) -> None:
    daily = [take(tmp_path / "daily", [e for e in LOG if e[3] < end]) for end in (200, 300, 600, 2000)]
    at_once = take(tmp_path / "at once", LOG)
    assert ids(daily[-1]) == ids(at_once)
    one, other = (Snapshot(built.snapshot).manifest for built in (daily[-1], at_once))
    assert one.files == other.files
    assert one.vocabulary is not None
    assert other.vocabulary is not None
    assert one.vocabulary.digest == other.vocabulary.digest
    assert other.vocabulary.new_items == other.items
    assert one.vocabulary.new_items == other.items - Snapshot(daily[-2].snapshot).manifest.items


def test_late_rows_move_no_id(tmp_path: Path) -> None:
    before = take(tmp_path, LOG[:800])
    after = take(tmp_path, [*LOG, *LATE])
    (old_users, old_items), (users, items) = ids(before), ids(after)
    assert users[: len(old_users)] == old_users
    assert items[: len(old_items)] == old_items
    assert users[len(old_users) : len(old_users) + 2] == [7, 8], "the new ones stand by their first events"
    assert items[len(old_items) : len(old_items) + 2] == [3, 4]
    numbering = Snapshot(after.snapshot).manifest.vocabulary
    assert numbering is not None
    assert (numbering.generation, numbering.new_users) == (1, len(users) - len(old_users))
    assert numbering.new_items == len(items) - len(old_items)


def test_catalogs_hold_only_what_was_seen_and_never_shrink(tmp_path: Path) -> None:
    for events in (LOG[:800], LOG[:1000], [*LOG, *LATE]):
        snapshot = Snapshot(take(tmp_path, events).snapshot)
    first_seen = snapshot.items["first_seen"].cast("int64").to_numpy()
    assert (np.diff(first_seen) < 0).any(), "late rows did put ids out of the order of time"
    for split in ("leave_one_out", "temporal"):
        for part in PARTS:
            targets = snapshot.targets(split, part)
            times = snapshot.time[targets.event]
            for time, catalog in zip(times, targets.catalog, strict=True):
                assert (first_seen[:catalog] < time).all()
                assert catalog == len(first_seen) or first_seen[catalog] >= time
            assert (np.diff(targets.catalog[np.argsort(times)]) >= 0).all()
            drawn = snapshot.candidates(split, targets)
            assert (drawn < targets.catalog[:, None]).all()


def test_an_older_model_reads_the_newer_snapshot(tmp_path: Path) -> None:
    older, newer = (Snapshot(take(tmp_path, events).snapshot) for events in (LOG[:800], [*LOG, *LATE]))
    model = untrained("popularity", older)
    loaded = load(save(tmp_path / "model", model, older, "leave_one_out", max_length=20))
    adapted = adapt(loaded, newer)
    assert isinstance(adapted, Adapted)
    assert adapted.known.tolist() == list(range(older.n_items)), "the items it knows are where they were"
    assert adapted.old_item[: older.n_items].tolist() == list(range(older.n_items))
    assert np.isfinite(judge(adapted, newer, "leave_one_out", "test", max_length=20).mean("mrr"))


def test_each_k_core_has_its_own_numbers(tmp_path: Path) -> None:
    core = {"user": 20, "item": 20}
    take(tmp_path, LOG)
    before = vocabulary_files(tmp_path)
    built = take(tmp_path, LOG, k_core=core)
    assert ids(built) != ids(take(tmp_path, LOG))
    now = vocabulary_files(tmp_path)
    assert {path: now[path] for path in before} == before
    assert {path.split("/")[1] for path in now} == {"user-1-item-1", "user-20-item-20"}
    older, newer = ids(built), ids(take(tmp_path, [*LOG, *LATE * 10], k_core=core))
    for old, new in zip(older, newer, strict=True):
        assert new[: len(old)] == old


# -- a new generation --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([e for e in LOG if e[3] >= 800], "known items are no longer in the events"),
        ([e for e in LOG if e[0] != 101], "1 of 40 known users and 0 of "),
        ([e for e in LOG if e[1] != LOG[0][1] or e[3] > LOG[0][3]], "the first events of 1 known items are no longer"),
        ([(f"u{e[0]}", *e[1:]) for e in LOG], "the ids are of another type (users were int64, now string)"),
    ],
    ids=["moved window", "user gone", "later first event", "other type"],
)
def test_events_taken_away_start_a_new_generation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, events: list[Event], says: str
) -> None:
    take(tmp_path, LOG)
    with caplog.at_level(logging.WARNING):
        built = take(tmp_path, events)
    assert says in caplog.text
    manifest = Snapshot(built.snapshot).manifest
    assert manifest.vocabulary is not None
    assert (manifest.vocabulary.generation, manifest.vocabulary.new_users) == (2, manifest.users)
    assert any("generation 2" in note and says in note for note in manifest.notes)
    assert ids(built) == ids(take(tmp_path / "fresh", events))
    assert take(tmp_path, events).reused
    grown: list[Event] = [*events, (events[0][0], 99_999, "buy", 5000)]
    later = Snapshot(take(tmp_path, grown).snapshot).manifest
    assert later.notes == ()
    assert later.vocabulary is not None
    assert (later.vocabulary.generation, later.vocabulary.new_items) == (2, 1)


# -- crashes and damage ------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Not an error that anything handles."""


@pytest.mark.slow
def test_a_kill_between_numbers_and_snapshot_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers are published, the snapshot is not: a rerun gives the same bytes, the manifest's counts included."""
    for home in (tmp_path / "killed", tmp_path / "calm"):
        take(home, LOG[:800])

    def kill(_: Path) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("hmar.atomic.fsync_tree", kill)
        with pytest.raises(Killed):
            take(tmp_path / "killed", [*LOG, *LATE])
    root = tmp_path / "killed" / "snapshots" / "tiny"
    assert len(list(root.iterdir())) == 2, "the first snapshot and latest.json"
    extended = vocabulary_files(tmp_path / "killed")
    again, calm = take(tmp_path / "killed", [*LOG, *LATE]), take(tmp_path / "calm", [*LOG, *LATE])
    assert not again.reused
    assert (again.id, snapshot_files(again)) == (calm.id, snapshot_files(calm))
    assert vocabulary_files(tmp_path / "killed") == vocabulary_files(tmp_path / "calm") == extended


def test_a_failed_build_leaves_no_number_behind(tmp_path: Path) -> None:
    take(tmp_path, LOG)
    before = vocabulary_files(tmp_path)
    robot: list[Event] = [(1, 2, "view", second) for second in range(65_536)]
    with pytest.raises(DataError, match="HBI overflow"):
        take(tmp_path, [*LOG, *robot])
    assert vocabulary_files(tmp_path) == before


def test_only_the_files_in_use_stay(tmp_path: Path) -> None:
    take(tmp_path, LOG[:800])
    take(tmp_path, LOG)
    directory = tmp_path / "vocabularies" / "tiny" / "user-1-item-1"
    names = sorted(path.name for path in directory.iterdir())
    assert [name.split("-")[0] for name in names] == ["items", "manifest.json", "users"]
    (directory / ".tmp-killed").mkdir()
    (directory / "users-0123456789abcdef.parquet").write_bytes(b"of a build that was killed before its manifest")
    assert take(tmp_path, LOG).reused
    assert sorted(path.name for path in directory.iterdir()) == names


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize(
    ("pattern", "harm", "says"),
    [
        ("users-*.parquet", cut, "changed"),
        ("items-*.parquet", Path.unlink, "missing"),
        ("manifest.json", cut, "manifest.json: Invalid JSON"),
    ],
)
def test_damage_is_named_not_guessed_around(
    tmp_path: Path, pattern: str, harm: Callable[[Path], None], says: str
) -> None:
    take(tmp_path, LOG[:800])
    directory = tmp_path / "vocabularies" / "tiny" / "user-1-item-1"
    harm(next(directory.glob(pattern)))
    with pytest.raises(DataError, match=says) as error:
        take(tmp_path, LOG)
    assert "restore the directory, or delete it" in str(error.value)
    shutil.rmtree(directory)
    assert not take(tmp_path, LOG).reused


def test_reuse_reads_no_event(tmp_path: Path) -> None:
    s = snapshot_run(tmp_path, candidates=5)
    published = publish_events(s.paths.events(s.name), LOG)
    first = build(s, published)
    for path in published.events.glob("*/*.parquet"):
        path.write_bytes(b"nobody looks")
    assert build(s, published) == first.model_copy(update={"reused": True})
    manifest = json.loads((tmp_path / "vocabularies" / "tiny" / "user-1-item-1" / "manifest.json").read_text())
    assert manifest["events"] == published.digest
