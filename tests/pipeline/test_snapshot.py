"""The snapshot stage on small logs whose right answer is known."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmar.data.snapshot import PARTS, TARGET_COLUMNS, Snapshot
from hmar.errors import BusyError, DataError, SettingsError
from pipeline.results import Built
from pipeline.settings import RetrainSettings
from pipeline.stages.snapshot import build
from pipeline.storage.lock import dataset_lock
from tests.support.events import Event, publish_events
from tests.support.tiny_snapshot import SHOP, make_snapshot, random_events, snapshot_run

LOG = random_events(40, 60, 1500, seed=1)


def run(home: Path, events: list[Event], parts: int = 1, **options: Any) -> tuple[RetrainSettings, Built]:
    s = snapshot_run(home, **{"candidates": 5, **options})
    return s, build(s, publish_events(s.paths.events(s.name), events, parts=parts))


def contents(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def stamps(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in [directory, *directory.rglob("*")]}


# -- format ----------------------------------------------------------------------------------------------------


def test_files_and_types_are_those_of_the_format(tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path, LOG, categories={1000: 7})
    rows, users = len(LOG), len({event[0] for event in LOG})
    kinds = {
        "offsets": (np.int64, (users + 1,)),
        "item": (np.int32, (rows,)),
        "behavior": (np.uint8, (rows,)),
        "time": (np.int64, (rows,)),
        "hbi": (np.uint16, (rows, 3)),
    }
    for name, (kind, shape) in kinds.items():
        array = getattr(snapshot, name)
        assert (array.dtype, array.shape) == (np.dtype(kind), shape), name
    schema = {field.name: str(field.type) for field in pq.read_schema(snapshot.path / "events.parquet")}
    assert schema == {
        "user": "int32",
        "item": "int32",
        "behavior": "uint8",
        "event_time": "timestamp[us, tz=UTC]",
        "hbi_view": "uint16",
        "hbi_cart": "uint16",
        "hbi_buy": "uint16",
    }
    assert snapshot.users.column_names == ["user", "user_id", "first_seen", "events"]
    assert snapshot.items.column_names == ["item", "item_id", "category_id", "first_seen", "events"]
    categories = dict(zip(*(snapshot.items[name].to_pylist() for name in ("item_id", "category_id")), strict=True))
    assert categories.pop(1000) == 7
    assert set(categories.values()) == {None}
    for split in ("leave_one_out", "temporal"):
        path = snapshot.path / "splits" / split
        assert {f.name: str(f.type) for f in pq.read_schema(path / "targets.parquet")} == TARGET_COLUMNS
        targets = pq.read_table(path / "targets.parquet")
        assert targets["target"].to_pylist() == list(range(len(targets)))
        keys = list(zip(*(targets[name].to_pylist() for name in ("part", "user", "event")), strict=True))
        assert keys == sorted(keys)
        drawn = pq.read_table(path / "candidates.parquet")
        assert drawn.schema.types == [pa.int64(), pa.int16(), pa.int32()]
        assert drawn["target"].to_pylist() == [target for target in range(len(targets)) for _ in range(5)]
        assert drawn["position"].to_pylist() == [*range(5)] * len(targets)


def test_manifest_accounts_for_everything(tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path, [*LOG, (999, 1000, "view", 5)], k_core={"user": 2, "item": 2})
    manifest = snapshot.manifest
    assert manifest.id == snapshot.path.name
    assert 999 not in snapshot.users["user_id"].to_pylist()
    assert manifest.accounts["events"] == len(LOG) + 1
    assert manifest.accounts["outside_k_core"] + manifest.events == len(LOG) + 1
    assert sum(manifest.behavior_counts.values()) == manifest.events == len(snapshot.item)
    assert any("k-core" in note for note in manifest.notes)
    hashes = {
        name: hashlib.sha256(content).hexdigest()
        for name, content in contents(snapshot.path).items()
        if name != "manifest.json"
    }
    assert manifest.files == hashes
    for split, told in manifest.splits.items():
        for part in PARTS:
            targets = snapshot.targets(split, part)
            assert told[part] == {
                "targets": len(targets),
                "repeat": targets.repeat.sum(),
                "cold_user": targets.cold_user.sum(),
                "cold_item": targets.cold_item.sum(),
            }
        assert told["training_events"] == (snapshot.train_end(split) - snapshot.offsets[:-1]).sum()


def test_without_k_core_nothing_is_noted(tmp_path: Path) -> None:
    assert make_snapshot(tmp_path, LOG).manifest.notes == ()


# -- splits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "validation", "test"),
    [
        ([1], None, None),
        ([1, 2], 2, None),
        ([1, 2, 3], 2, 3),
        ([1, 2, 3, 4], 3, 4),
        ([1, 1], 1, None),
        ([1, 2, 2], 1, 2),
        ([1, 2, 2, 2], 1, 2),
        ([2, 2, 2], 2, None),
    ],
)
def test_leave_one_out(tmp_path: Path, times: list[int], validation: int | None, test: int | None) -> None:
    buys: list[Event] = [(1, 10 + n, "buy", time) for n, time in enumerate(times)]
    snapshot = make_snapshot(tmp_path, [*buys, (1, 50, "view", 0), (1, 51, "view", 9)])
    start = int(snapshot.time[0])
    found = {}
    for part in PARTS:
        targets = snapshot.targets("leave_one_out", part)
        found[part] = [(int(snapshot.time[row]) - start) // 1_000_000 for row in targets.event]
    assert found == {
        "validation": [] if validation is None else [validation],
        "test": [] if test is None else [test],
    }
    trained = snapshot.train_end("leave_one_out")[0]
    before = 99 if validation is None else validation
    assert trained == sum(time < before for time in [*times, 0, 9])


def test_an_item_used_up_before_is_no_target(tmp_path: Path) -> None:
    events: list[Event] = [
        (1, 10, "view", 1),
        (1, 10, "buy", 2),
        (1, 11, "buy", 3),
        (1, 11, "buy", 4),
        (1, 12, "cart", 5),
        (1, 12, "buy", 6),
        (1, 13, "buy", 7),
    ]
    snapshot = make_snapshot(tmp_path, events, repeats=False, consumed_by=("cart", "buy"))
    picked = {
        part: snapshot.items["item_id"].take(snapshot.targets("leave_one_out", part).item).to_pylist() for part in PARTS
    }
    assert picked == {"validation": [11], "test": [13]}


def test_user_with_one_event_trains_and_is_no_target(tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path, [(1, 10, "buy", 1), (1, 11, "buy", 2), (2, 10, "buy", 3)])
    assert snapshot.users["user_id"].to_pylist() == [1, 2]
    assert snapshot.targets("leave_one_out", "validation").user.tolist() == [0]
    assert snapshot.train_end("leave_one_out").tolist() == [1, 3]


# -- HBI -------------------------------------------------------------------------------------------------------


def naive_hbi(snapshot: Snapshot) -> np.ndarray:
    seen: dict[tuple[int, int], np.ndarray] = {}
    rows = []
    for user in range(snapshot.n_users):
        for row in range(snapshot.offsets[user], snapshot.offsets[user + 1]):
            count = seen.setdefault((user, int(snapshot.item[row])), np.zeros(len(snapshot.behaviors), np.int64))
            count[snapshot.behavior[row]] += 1
            rows.append(count.copy())
    return np.array(rows)


def test_order_inside_a_tie_is_neutral(tmp_path: Path) -> None:
    """Events of one time stand in funnel order; inside a behavior no item comes first more often than another."""
    from scipy.stats import chisquare

    events: list[Event] = [(user, item, "buy", 1) for user in range(600) for item in range(6)]
    views: list[Event] = [(user, 9, "view", 1) for user in range(600)]
    snapshot = make_snapshot(tmp_path, events + views)
    rows = snapshot.item.reshape(600, 7)
    view = snapshot.items["item_id"].to_pylist().index(9)
    assert (rows[:, 0] == view).all()
    for position in range(1, 7):
        counts = np.bincount(rows[:, position], minlength=7)
        assert chisquare(np.delete(counts, view)).pvalue > 1e-4


def test_an_event_that_is_there_several_times_counts_each_time(tmp_path: Path) -> None:
    day: list[Event] = [(1, 10, "view", 1)] * 3 + [(1, 11, "view", 1)] * 2 + [(1, 10, "buy", 1)] * 2
    snapshot = make_snapshot(tmp_path, day)
    assert len(snapshot.item) == 7
    assert np.array_equal(snapshot.hbi, naive_hbi(snapshot))
    of_one = snapshot.hbi[snapshot.item == snapshot.items["item_id"].to_pylist().index(10)].tolist()
    assert of_one == [[1, 0, 0], [2, 0, 0], [3, 0, 0], [3, 0, 1], [3, 0, 2]]
    assert snapshot.targets("leave_one_out", "validation").event.tolist() == [6]


def test_a_log_without_equal_rows_is_sorted_by_less_and_comes_out_the_same(tmp_path: Path) -> None:
    events = random_events(10, 8, 400, seed=3, span=20)
    written = []
    for place, settings in ((tmp_path / "a", {}), (tmp_path / "b", {"ingest": {"identical_rows": "duplicate"}})):
        s = snapshot_run(place)
        published = publish_events(s.paths.events(s.name), events)
        manifest = published.events / "manifest.json"
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "settings": settings}))
        written.append((build(s, published).snapshot / "events.parquet").read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("kinds", [1, 2, 4, 5, 8])
def test_hbi_for_any_number_of_behaviors(tmp_path: Path, kinds: int) -> None:
    behaviors = tuple(f"kind {n}" for n in range(kinds))
    snapshot = make_snapshot(tmp_path, random_events(3, 4, 400, seed=kinds, behaviors=behaviors), behaviors=behaviors)
    assert np.array_equal(snapshot.hbi, naive_hbi(snapshot))


def test_hbi_past_the_packed_limit_is_still_right(tmp_path: Path) -> None:
    robot: list[Event] = [(1, 10, "view", second) for second in range(40_000)]
    others: list[Event] = [(1, 10, "buy", 39_000.5), (1, 11, "buy", 3), (2, 10, "buy", 1)]
    snapshot = make_snapshot(tmp_path, robot + others)
    assert snapshot.hbi.max() == 40_000
    assert np.array_equal(snapshot.hbi, naive_hbi(snapshot))


def test_hbi_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    robot: list[Event] = [(1, 10, "view", second) for second in range(65_536)]
    with pytest.raises(DataError, match=r"HBI overflow: user 1 has 65536 'view' events with item 10, at most 65535"):
        make_snapshot(tmp_path, [*robot, (1, 11, "buy", 3)])


# -- errors ----------------------------------------------------------------------------------------------------


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("events", "options", "kind", "says"),
    [
        ([(1, 2, "view", 3)], {}, DataError, "without target events: tiny has no event of the target behavior 'buy'"),
        ([(1, 2, "vew", 3), (1, 2, "buy", 4)], {}, SettingsError, "'vew', which is not among them; did you mean 'vi"),
        ([(1, 2, "buy", 3)], {"k_core": {"user": 2}}, DataError, "snapshot.k_core: no user with 2 events"),
        ([(1, 2, "buy", 3)], {"behaviors": ()}, SettingsError, "snapshot.behaviors: is empty, name the behaviors"),
        ([(1, 2, "buy", 3)], {"target": ""}, SettingsError, "snapshot.target: is empty"),
        ([(1, 2, "buy", 3)], {"behaviors": (*"abcdefgh", "buy")}, SettingsError, "at most 8"),
        (
            [(1, 2, "view", 3), (1, 2, "buy", 4)],
            {"repeats": False},
            DataError,
            "dataset without target events: no 'buy' event is left",
        ),
    ],
)
def test_bad_input_is_one_clear_line(
    tmp_path: Path, events: list[Event], options: dict[str, Any], kind: type[Exception], says: str
) -> None:
    if options.get("behaviors") == ():
        options = {**options, "target": "buy"}
    with pytest.raises(kind) as error:
        make_snapshot(tmp_path, events, **options)
    assert says in one_line(error)


def test_missing_events_are_named(tmp_path: Path) -> None:
    s = snapshot_run(tmp_path)
    published = publish_events(tmp_path / "elsewhere", LOG)
    with pytest.raises(DataError, match="no events are published here"):
        build(s, published.model_copy(update={"events": tmp_path / "nowhere"}))
    next((tmp_path / "elsewhere").glob("*/part.parquet")).unlink()
    with pytest.raises(DataError, match=r"part\.parquet: named by the manifest but missing"):
        build(s, published)


def test_too_little_memory_is_a_setting_to_raise(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"engine\.memory_limit: 3MB is too little for 4 threads") as error:
        make_snapshot(tmp_path, LOG, memory_limit="3MB", threads=4)
    one_line(error)


def test_one_writer_per_dataset(tmp_path: Path) -> None:
    s = snapshot_run(tmp_path)
    published = publish_events(s.paths.events(s.name), LOG)
    with dataset_lock(s.paths.lock(s.name), "a test"), pytest.raises(BusyError):
        build(s, published)
    assert not s.paths.snapshots(s.name).exists()


# -- reuse -----------------------------------------------------------------------------------------------------


def test_same_input_is_reused_and_nothing_is_touched(tmp_path: Path) -> None:
    s, first = run(tmp_path, LOG)
    home = s.paths.snapshots(s.name)
    before = stamps(home)
    again = build(s, publish_events(s.paths.events(s.name), LOG))
    assert (first.reused, again.reused) == (False, True)
    assert again.id == first.id
    assert stamps(home) == before
    assert sorted(path.name for path in home.iterdir()) == sorted([first.id, "latest.json"])


def test_any_setting_makes_another_snapshot_and_latest_follows(tmp_path: Path) -> None:
    s, first = run(tmp_path, LOG)
    latest = s.paths.snapshots(s.name) / "latest.json"
    ids = {first.id}
    for option in ({"seed": 1}, {"candidates": 6}, {"unseen": True}, {"k_core": {"item": 2}}):
        _, built = run(tmp_path, LOG, **option)
        ids.add(built.id)
        assert json.loads(latest.read_text())["id"] == built.id
    assert len(ids) == 5
    assert run(tmp_path, LOG)[1].reused
    assert json.loads(latest.read_text())["id"] == first.id


def flip_a_byte(directory: Path) -> None:
    path = directory / "arrays" / "time.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "harm",
    [
        flip_a_byte,
        lambda directory: (directory / "splits" / "temporal" / "train_end.npy").unlink(),
        lambda directory: (directory / "manifest.json").unlink(),
        lambda directory: (directory / "manifest.json").write_text('{"schema_version": 1}'),
        lambda directory: (directory / "manifest.json").write_text("{"),
    ],
    ids=["changed", "missing", "no manifest", "other manifest", "broken manifest"],
)
def test_a_damaged_snapshot_is_built_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None]
) -> None:
    s, built = run(tmp_path, LOG)
    whole = contents(built.snapshot)
    harm(built.snapshot)
    with caplog.at_level(logging.WARNING):
        again = build(s, publish_events(s.paths.events(s.name), LOG))
    assert not again.reused
    assert "damaged" in caplog.text
    assert contents(again.snapshot) == whole


def test_leftovers_of_killed_builds_are_swept(tmp_path: Path) -> None:
    s, _ = run(tmp_path, LOG)
    leftover = s.paths.snapshots(s.name) / ".tmp-old"
    leftover.mkdir()
    run(tmp_path, LOG)
    assert not leftover.exists()


# -- bytes -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"repeats": False}, {"k_core": {"user": 3, "item": 3}, "unseen": True}])
@pytest.mark.parametrize("log", [LOG, LOG + LOG[:300] + LOG[:100]], ids=["once", "several times"])
def test_order_partitions_and_threads_change_no_byte(tmp_path: Path, options: dict[str, Any], log: list[Event]) -> None:
    _, reference = run(tmp_path / "reference", log, threads=1, **options)
    shuffled = [log[n] for n in np.random.default_rng(5).permutation(len(log))]
    for threads, parts, events in ((2, 1, shuffled), (4, 7, log), (4, 3, shuffled)):
        _, other = run(tmp_path / f"{threads}-{parts}", events, parts, threads=threads, **options)
        assert other.id == reference.id
        assert contents(other.snapshot) == contents(reference.snapshot)


@pytest.mark.slow
def test_threads_and_memory_change_no_byte_of_a_larger_snapshot(tmp_path: Path) -> None:
    events = random_events(5_000, 3_000, 400_000, seed=2, span=2_000)
    results = {}
    for threads, parts, memory in ((1, 1, "2GB"), (2, 5, "2GB"), (4, 40, "2GB"), (4, 3, "200MB")):
        _, built = run(tmp_path / f"{threads}-{parts}", events, parts, threads=threads, memory_limit=memory)
        results[threads, parts] = contents(built.snapshot)
    reference = results.pop((1, 1))
    for other in results.values():
        assert other == reference


# -- candidates ------------------------------------------------------------------------------------------------


def drawn_items(snapshot: Snapshot, split: str = "temporal") -> np.ndarray:
    return np.concatenate([snapshot.candidates(split, snapshot.targets(split, part)) for part in PARTS])


def large_catalog(users: int, items: int) -> list[Event]:
    """All items are seen at the start, then every user buys ten of few; whoever met them gets no target."""
    seen: list[Event] = [(0, 1000 + n, "view", 0) for n in range(items)]
    return seen + [(user, 1000 + n, "buy", 1 + n) for user in range(1, users) for n in range(10)]


@pytest.mark.parametrize(("items", "candidates"), [(800, 20), (60, 20)], ids=["drawn", "shuffled"])
@pytest.mark.parametrize("options", [{}, {"unseen": True}, {"repeats": False, "consumed_by": ("buy",)}])
def test_candidates_are_uniform(tmp_path: Path, items: int, candidates: int, options: dict[str, Any]) -> None:
    from scipy.stats import chisquare

    snapshot = make_snapshot(tmp_path, large_catalog(400, items), candidates=candidates, **options)
    found = drawn_items(snapshot)
    assert (found >= 0).all()
    popularity = np.bincount(found.ravel(), minlength=items)[10:]
    assert chisquare(popularity).pvalue > 1e-4
    first = np.bincount(found[:, 0], minlength=items)[10:]
    assert chisquare(first).pvalue > 1e-4
    in_pairs = np.bincount((found[:, 0] % 5) * 5 + found[:, 1] % 5, minlength=25)
    assert chisquare(in_pairs).pvalue > 1e-6


def test_few_candidates_are_the_beginning_of_many(tmp_path: Path) -> None:
    events = large_catalog(30, 500)
    few, many = (drawn_items(make_snapshot(tmp_path, events, candidates=n)) for n in (10, 25))
    assert np.array_equal(few, many[:, :10])
    other = drawn_items(make_snapshot(tmp_path, events, candidates=10, seed=1))
    assert (few == other).mean() < 0.05


@pytest.mark.parametrize("deviations", [-9, 0, 40])
def test_number_of_draws_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deviations: float) -> None:
    options: dict[str, Any] = {"candidates": 60, "unseen": True}
    usual = drawn_items(make_snapshot(tmp_path, large_catalog(30, 400), **options))
    monkeypatch.setattr("pipeline.snapshot.candidates.DEVIATIONS", deviations)
    assert np.array_equal(drawn_items(make_snapshot(tmp_path, large_catalog(30, 400), **options)), usual)


def test_stretches_of_targets_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = drawn_items(make_snapshot(tmp_path, LOG))
    monkeypatch.setattr("pipeline.snapshot.candidates.ROWS_AT_ONCE", 35)
    assert np.array_equal(drawn_items(make_snapshot(tmp_path, LOG)), usual)


def test_too_small_a_catalog_leaves_nulls(tmp_path: Path) -> None:
    events: list[Event] = [(1, 10, "buy", 1), (1, 11, "buy", 2), (1, 12, "buy", 3)]
    snapshot = make_snapshot(tmp_path, events, candidates=4)
    test = snapshot.targets("leave_one_out", "test")
    drawn = snapshot.candidates("leave_one_out", test)[0]
    assert set(drawn[:2]) == {0, 1}
    assert drawn[2:].tolist() == [-1, -1]


def test_behaviors_of_the_settings_that_do_not_occur_are_kept(tmp_path: Path) -> None:
    snapshot = make_snapshot(tmp_path, [(1, 2, "buy", n) for n in range(4)])
    assert snapshot.behaviors == SHOP
    assert snapshot.manifest.behavior_counts == {"view": 0, "cart": 0, "buy": 4}
    assert snapshot.hbi[-1].tolist() == [0, 0, 4]
