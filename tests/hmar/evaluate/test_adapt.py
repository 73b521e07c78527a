"""A model of snapshot 1 on snapshot 2: more users, more items, and every dense id somewhere else."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hmar.data.counting import PriorCounts
from hmar.data.snapshot import Snapshot
from hmar.data.targets import histories_for
from hmar.errors import DataError
from hmar.evaluate.adapt import Adapted, adapt
from hmar.evaluate.judge import judge
from hmar.export import LoadedModel, load, save
from hmar.models import MODELS
from hmar.models.base import Vocabulary
from tests.support.arrays import Event, random_users, write_snapshot
from tests.support.judging import SPLIT
from tests.support.models import stirred
from tests.support.untrained import untrained

OLD, NEW, USERS = 40, 55, 30


def histories() -> list[list[Event]]:
    return random_users(USERS, OLD, 3, 12, shortest=2)


@pytest.fixture
def first(tmp_path: Path) -> Snapshot:
    return write_snapshot(tmp_path / "first", histories(), items=OLD)


@pytest.fixture
def second(tmp_path: Path) -> Snapshot:
    """The first snapshot's users with events of new items slipped in before their targets, then new users."""
    place = np.random.default_rng(0).permutation(NEW)
    users: list[list[Event]] = []
    for number, events in enumerate([*histories(), *random_users(5, OLD, 3, 12, seed=1, shortest=2)]):
        moved = [(int(place[item]), code, second) for item, code, second in events]
        fresh = (int(place[OLD + number % (NEW - OLD)]), 0, 1)
        users.append([*moved[:-1], fresh, moved[-1]] if number % 2 else moved)
    users.append([(int(place[OLD]), 0, 5), (int(place[OLD + 1]), 2, 6)])
    snapshot = write_snapshot(tmp_path / "second", users, items=NEW)
    source = np.empty(NEW, np.int64)
    source[place] = 1000 + np.arange(NEW)
    pq.write_table(
        pa.table({"item": np.arange(NEW, dtype=np.int32), "item_id": source}), snapshot.path / "items.parquet"
    )
    return Snapshot(snapshot.path)


def exported(name: str, snapshot: Snapshot, path: Path) -> LoadedModel:
    return load(save(path, stirred(untrained(name, snapshot)), snapshot, SPLIT, max_length=50))


def scores(model: torch.nn.Module, snapshot: Snapshot, count: int) -> np.ndarray:
    targets = snapshot.targets(SPLIT, "validation").take(np.arange(count))
    prior = PriorCounts(snapshot).history_items(targets.user, targets.history_end)
    with torch.inference_mode():
        return model.score_all(histories_for(snapshot, targets, 50, model.reads), prior).numpy()


@pytest.mark.parametrize("name", MODELS)
def test_known_items_score_as_before_and_unknown_ones_never_win(
    name: str, first: Snapshot, second: Snapshot, tmp_path: Path
) -> None:
    loaded = exported(name, first, tmp_path / "model")
    adapted = adapt(loaded, second)
    old = scores(loaded.model, first, USERS)
    new = scores(adapted, second, USERS)
    source = second.items.column("item_id").to_numpy() - 1000
    unknown = source >= OLD
    assert (new[:, unknown] == -np.inf).all()
    if name == "recent":
        # Its scores are places; dropping an unknown event moves them all alike.
        np.testing.assert_array_equal(new[:, ~unknown].argsort(1), old[:, source[~unknown]].argsort(1))
    else:
        np.testing.assert_allclose(new[:, ~unknown], old[:, source[~unknown]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_it_can_be_judged(name: str, first: Snapshot, second: Snapshot, tmp_path: Path) -> None:
    adapted = adapt(exported(name, first, tmp_path / "model"), second)
    judgement = judge(adapted, second, SPLIT, "validation", max_length=50)
    source = second.items.column("item_id").to_numpy()[judgement.targets.item]
    np.testing.assert_array_equal(np.isinf(judgement.rank_full), source >= 1000 + OLD)
    np.testing.assert_array_equal(np.isinf(judgement.ranks["sampled"]), source >= 1000 + OLD)
    assert np.isinf(judgement.rank_full).any()
    assert np.isfinite(judgement.rank_full).sum() >= USERS


@pytest.mark.parametrize("name", MODELS)
def test_on_its_own_snapshot_the_wrapper_changes_nothing(name: str, first: Snapshot, tmp_path: Path) -> None:
    loaded = exported(name, first, tmp_path / "model")
    assert adapt(loaded, first) is loaded.model
    wrapped = Adapted(loaded.model, loaded.item_ids, loaded.item_ids, Vocabulary.of(first)).eval()
    np.testing.assert_array_equal(scores(wrapped, first, USERS), scores(loaded.model, first, USERS))
    plain, through = (judge(one, first, SPLIT, "validation", max_length=50) for one in (loaded.model, wrapped))
    np.testing.assert_array_equal(plain.rank_full, through.rank_full)
    np.testing.assert_array_equal(plain.ranks["sampled"], through.ranks["sampled"])


def test_other_behaviors_or_another_target_do_not_compare(first: Snapshot, tmp_path: Path) -> None:
    loaded = exported("recent", first, tmp_path / "model")
    other = Snapshot(first.path)
    other.manifest = first.manifest.model_copy(update={"behaviors": ("view", "fav", "buy")})
    with pytest.raises(
        DataError, match=r"the model's behaviors \(view, cart, buy\) are not those .* \(view, fav, buy\)"
    ):
        adapt(loaded, other)
    other.manifest = first.manifest.model_copy(update={"target": "cart"})
    with pytest.raises(DataError, match=r"the model's target \(buy\)"):
        adapt(loaded, other)
    meta = loaded.meta.model_copy(update={"item_id_type": "string"})
    with pytest.raises(DataError, match="type of item ids"):
        adapt(replace(loaded, meta=meta), first)
