"""What the champion writes."""

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest

from hmar.data.snapshot import Snapshot
from hmar.errors import DataError
from hmar.export import load
from hmar.recommend import top_items
from pipeline.results import Promoted
from pipeline.stages.recommend import LATEST, of_user, read_latest, recommend
from tests.support.night import Night
from tests.support.registry import Shop

pytestmark = pytest.mark.slow

COLUMNS = ["user_id", "rank", "item_id", "score", "model_version", "snapshot", "scored_at"]


def test_every_user_gets_k_items_in_rank_order(night: Night) -> None:
    table = pq.read_table(night.recommended.path)
    users, k = 60, night.s.recommend.k
    assert table.column_names == COLUMNS
    assert (night.recommended.users, night.recommended.rows, len(table)) == (users, users * k, users * k)
    assert table.column("rank").to_numpy().reshape(users, k).tolist() == [list(range(1, k + 1))] * users
    scores = table.column("score").to_numpy().reshape(users, k)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert set(table.column("model_version").to_pylist()) == {night.promoted.champion}
    assert set(table.column("snapshot").to_pylist()) == {night.built.id}
    (scored_at,) = set(table.column("scored_at").to_pylist())
    assert abs((datetime.now(UTC) - scored_at).total_seconds()) < 3600


def test_items_are_those_of_the_champion_for_that_user(night: Night) -> None:
    snapshot = Snapshot(night.built.snapshot)
    loaded = load(night.registered.directory / "model")
    items, _ = top_items(loaded.model, snapshot, np.array([17], np.int32), 7, max_length=loaded.meta.max_length)
    user = snapshot.users.column("user_id")[17].as_py()
    expected = [snapshot.items.column("item_id")[int(item)].as_py() for item in items[0]]
    assert of_user(night.recommended.path, str(user)).column("item_id").to_pylist() == expected


def test_latest_names_the_file(night: Night) -> None:
    root = night.s.paths.recommendations(night.s.name)
    latest = json.loads((root / LATEST).read_text(encoding="utf-8"))
    assert root / latest["path"] == night.recommended.path
    assert (latest["champion"], latest["snapshot"], latest["users"]) == (night.promoted.champion, night.built.id, 60)
    assert latest == read_latest(night.s)


def test_same_champion_on_the_same_snapshot_writes_nothing(night: Night) -> None:
    root = night.s.paths.recommendations(night.s.name)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert recommend(night.s, night.built, night.promoted) == night.recommended
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_unknown_user_has_no_rows_and_a_bad_id_is_explained(night: Night) -> None:
    assert len(of_user(night.recommended.path, "999999")) == 0
    with pytest.raises(DataError, match="user 'anna': the user ids of this dataset are whole numbers"):
        of_user(night.recommended.path, "anna")


def test_champion_comes_from_the_registry_where_its_training_is_gone(shop: Shop) -> None:
    registered = shop.registered("one", shop.ranks(1))
    shop.registry.point("champion", registered.version)
    here = recommend(shop.s, shop.built, Promoted(name=registered.name, champion="", promoted=True, reason=""))
    shop.forget_training(registered)
    before = pq.read_table(here.path).drop_columns("scored_at")
    here.path.unlink()
    here.path.parent.rmdir()
    again = recommend(shop.s, shop.built, Promoted(name=registered.name, champion="1", promoted=True, reason=""))
    assert pq.read_table(again.path).drop_columns("scored_at").equals(before)
    assert sorted(path.name for path in again.path.parent.iterdir()) == ["recommendations.parquet"]


def test_without_a_champion_there_is_one_clear_line(shop: Shop) -> None:
    with pytest.raises(DataError, match="hmar-tiny: no champion in the registry"):
        recommend(shop.s, shop.built, Promoted(name="hmar-tiny", champion="", promoted=False, reason=""))
    assert read_latest(shop.s) is None
