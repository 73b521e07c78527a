"""Every check of a snapshot holds for a good one and fails for one with that mistake; a bad one is not trained on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmar.data.snapshot import Snapshot
from hmar.errors import DataError
from pipeline.checks.snapshot import EVERYWHERE, OF_A_SPLIT, suite
from pipeline.checks.snapshot_measures import measure
from pipeline.results import Built
from pipeline.stages.inspect import RESULT, inspect
from tests.support.tiny_snapshot import make_snapshot, random_events, snapshot_run


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    events = random_events(40, 60, 1500, seed=3)
    shown = {"negative": ["cart"], "sampled": 2}
    return make_snapshot(tmp_path_factory.mktemp("good"), events, candidates=20, impressions=shown)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Items that do not recur, and times that many events share."""
    events = random_events(40, 60, 1500, seed=3, span=400)
    shown = {"negative": ["view"], "sampled": 2}
    return make_snapshot(tmp_path_factory.mktemp("films"), events, repeats=False, impressions=shown)


def damaged(good: Snapshot, tmp_path: Path, damage: Callable[[Path], None]) -> Snapshot:
    copy = tmp_path / good.path.name
    shutil.copytree(good.path, copy)
    damage(copy)
    return Snapshot(copy)


def array(name: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        values = np.load(path / name)
        change(values)
        np.save(path / name, values)

    return damage


def column(name: str, key: str, change: Callable[[Any], Any], rows: str = "") -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        table = pq.read_table(path / name)
        place = table.schema.get_field_index(key)
        values = table.column(key).to_pandas().to_numpy(copy=True)
        chosen = np.array([part == rows for part in table.column("part").to_pylist()]) if rows else slice(None)
        values[chosen] = change(values[chosen])
        changed = pa.array(values, from_pandas=True).cast(table.schema.field(key).type)
        pq.write_table(table.set_column(place, table.schema.field(key), changed), path / name)

    return damage


def no_candidates(path: Path) -> None:
    name = path / "splits/temporal/candidates.parquet"
    table = pq.read_table(name)
    pq.write_table(table.set_column(2, "item", pa.nulls(len(table), pa.int32())), name)


def test_films_have_nothing_wrong(films: Snapshot) -> None:
    found = measure(films)
    assert found.pop("events") == len(films.item)
    assert set(found.values()) == {0}


def history(films: Snapshot) -> Callable[[Path], None]:
    """The sampled negatives become what the user has used up."""
    shown = films.impressions("leave_one_out", "test")
    late = shown.moment[shown.history_end > films.offsets[shown.user]]

    def damage(path: Path) -> None:
        table = pq.read_table(path / "impressions.parquet")
        user, sampled = table.column("user").to_numpy(), table.column("sampled").to_numpy()
        item = table.column("item").to_numpy().copy()
        chosen = sampled & np.isin(table.column("moment").to_numpy(), late)
        item[chosen] = films.item[films.offsets[user[chosen]]]
        place = table.schema.get_field_index("item")
        pq.write_table(table.set_column(place, "item", pa.array(item)), path / "impressions.parquet")

    return damage


def test_a_used_item_among_the_negatives_is_counted(films: Snapshot, tmp_path: Path) -> None:
    assert measure(damaged(films, tmp_path, history(films)))["leave_one_out_impressions_of_used_items"] > 0


def test_a_good_snapshot_has_nothing_wrong(good: Snapshot) -> None:
    found = measure(good)
    assert found.pop("events") == len(good.item)
    assert set(found.values()) == {0}
    splits = good.manifest.splits
    assert set(found) >= {*EVERYWHERE, *(f"leave_one_out_{name}" for name in OF_A_SPLIT)}
    assert {check.measure for check in suite(measure(good))} == {*found, "events"}
    assert set(splits) == {"leave_one_out", "temporal"}


def _first(value: Any) -> Callable[[Any], None]:
    def change(values: Any) -> None:
        values[0] = value

    return change


LOO = "splits/leave_one_out"
MISTAKES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a user id is left out": ("ids_with_gaps", column("users.parquet", "user", lambda v: v + (v > 5))),
    "two items share an id": ("source_ids_twice", column("items.parquet", "item_id", lambda v: np.minimum(v, v[3]))),
    "an item that is not there": ("events_of_unknown_items", array("arrays/item.npy", _first(9999))),
    "an unknown behavior": ("events_of_unknown_behavior", array("arrays/behavior.npy", _first(9))),
    "an event from the future first": ("events_out_of_order", array("arrays/time.npy", _first(2**60))),
    "a lost event": ("events_of_unknown_users", array("arrays/offsets.npy", lambda v: v.__isub__(v == v[-1]))),
    "an HBI without the event": ("events_uncounted", array("arrays/hbi.npy", _first(0))),
    "an item's events": ("events_miscounted", column("items.parquet", "events", lambda v: v + 1)),
    "targets of other items": (
        "leave_one_out_targets_misplaced", column(f"{LOO}/targets.parquet", "item", lambda v: (v + 1) % 60)
    ),
    "the catalog of the whole log": (
        "leave_one_out_catalogs_wrong", column(f"{LOO}/targets.parquet", "catalog", lambda v: np.full_like(v, 60))
    ),
    "a shortened history": (
        "leave_one_out_histories_cut_short",
        column(f"{LOO}/targets.parquet", "history_end", lambda v: np.maximum(v - 1, 0), "test"),
    ),
    "training on everything": (
        "leave_one_out_targets_trained_on", array(f"{LOO}/train_end.npy", lambda v: v.__iadd__(1000))
    ),
    "training up to the target": (
        "temporal_training_with_future", array("splits/temporal/train_end.npy", lambda v: v.__iadd__(3))
    ),
    "parts swapped": (
        "leave_one_out_validation_after_test",
        column(f"{LOO}/targets.parquet", "part", lambda v: np.where(v == "test", "validation", "test")),
    ),
    "no candidates": ("temporal_candidates_missing", no_candidates),
    "a candidate of tomorrow": (
        "leave_one_out_candidates_unseen_by_then",
        column(f"{LOO}/candidates.parquet", "item", lambda v: np.where(np.arange(len(v)) == 3, 59, v)),
    ),
    "one candidate for all": (
        "leave_one_out_candidates_twice", column(f"{LOO}/candidates.parquet", "item", lambda v: np.full(len(v), 7))
    ),
    "the future in a moment's history": (
        "temporal_impressions_with_future", column("impressions.parquet", "history_end", lambda v: v + 1)
    ),
    "a moment's history cut": (
        "leave_one_out_impressions_cut_short",
        column("impressions.parquet", "history_end", lambda v: np.maximum(v - 1, 0)),
    ),
    "all were liked": (
        "leave_one_out_impressions_mislabeled", column("impressions.parquet", "label", lambda v: np.ones_like(v))
    ),
    "none was liked": (
        "temporal_impressions_mislabeled", column("impressions.parquet", "label", lambda v: np.zeros_like(v))
    ),
    "other items were said something of": (
        "temporal_impressions_mislabeled", column("impressions.parquet", "item", lambda v: (v + 1) % 60)
    ),
    "negatives of tomorrow": (
        "temporal_impressions_unseen_by_then", column("impressions.parquet", "item", lambda v: np.full(len(v), 59))
    ),
    "one item for all": (
        "leave_one_out_impressions_twice", column("impressions.parquet", "item", lambda v: np.full(len(v), 7))
    ),
    "tested on training": (
        "leave_one_out_moments_out_of_turn",
        column(f"{LOO}/moments.parquet", "part", lambda v: np.where(v == "test", "training", "test")),
    ),
    "trained on tests": (
        "temporal_moments_out_of_turn",
        column("splits/temporal/moments.parquet", "part", lambda v: np.where(v == "test", "training", v)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_each_mistake_is_counted(good: Snapshot, tmp_path: Path, mistake: str) -> None:
    measure_name, damage = MISTAKES[mistake]
    assert measure(damaged(good, tmp_path, damage))[measure_name] > 0


def test_the_future_in_a_history_is_counted(tmp_path: Path) -> None:
    """Two events of one second: a history that ends just before the target then holds its own second."""
    day = 86_400
    events = [(u, i, "view", day * i + u) for u in range(1, 6) for i in range(1, 9)]
    events += [(u, i, "buy", day * i + u) for u in range(1, 6) for i in range(1, 9)]
    snapshot = make_snapshot(tmp_path, events, candidates=3)
    assert set(measure(snapshot).values()) - {len(events)} == {0}
    path = snapshot.path / "splits/leave_one_out/targets.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index("history_end")
    pq.write_table(table.set_column(place, "history_end", table.column("event")), path)
    assert measure(Snapshot(snapshot.path))["leave_one_out_histories_with_future"] > 0


def test_the_target_among_its_candidates_is_counted(good: Snapshot, tmp_path: Path) -> None:
    targets = pq.read_table(good.path / LOO / "targets.parquet", columns=["item"]).column("item").to_numpy()
    change = column(f"{LOO}/candidates.parquet", "item", lambda v: np.repeat(targets, 20))
    assert measure(damaged(good, tmp_path, change))["leave_one_out_candidates_of_the_target"] == 20 * len(targets)


@pytest.mark.slow
def test_a_bad_snapshot_is_refused_and_shown(good: Snapshot, tmp_path: Path) -> None:
    s = snapshot_run(tmp_path / "home")
    built = Built(snapshot=good.path, id=good.manifest.id)
    assert inspect(s, built) == built
    project = s.paths.data_docs(s.name)
    page = (project / "snapshot.html").read_text(encoding="utf-8")
    assert good.manifest.id in page
    assert "expectations hold" in page
    before = (project / RESULT).stat().st_mtime_ns
    inspect(s, built)
    assert (project / RESULT).stat().st_mtime_ns == before

    bad = damaged(good, tmp_path / "bad", array("arrays/hbi.npy", _first(0)))
    with pytest.raises(DataError, match=r"events_uncounted is 1; this is a defect") as failed:
        inspect(s, Built(snapshot=bad.path, id="another"))
    assert "\n" not in str(failed.value)
    assert json.loads((project / RESULT).read_text(encoding="utf-8"))["success"] is False
    assert "expectations failed" in (project / "snapshot.html").read_text(encoding="utf-8")
    with pytest.raises(DataError):
        inspect(s, Built(snapshot=bad.path, id="another"))
