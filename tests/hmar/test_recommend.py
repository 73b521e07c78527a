"""Top items for every user: the same as scoring and sorting each one alone."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from hmar.data.counting import PriorCounts
from hmar.data.snapshot import Snapshot
from hmar.data.targets import histories_before
from hmar.errors import ModelError
from hmar.models import MODELS
from hmar.models.base import Recommender
from hmar.recommend import recommendations
from tests.support.arrays import random_users, write_snapshot
from tests.support.untrained import untrained

ITEMS = 40


def made(path: Path, repeats: bool) -> Snapshot:
    return write_snapshot(path, [*random_users(25, ITEMS, 3, 30), []], items=ITEMS, repeats=repeats)


def alone(model: Recommender, snapshot: Snapshot, user: int) -> np.ndarray:
    chosen, end = np.array([user]), snapshot.offsets[user + 1 : user + 2]
    now = np.array([snapshot.time.max() + 1])
    history = histories_before(snapshot, chosen, end, now, snapshot.target_behavior, 10, model.reads)
    with torch.inference_mode():
        scores = model.score_all(history, PriorCounts(snapshot).history_items(chosen, end))[0].clone().numpy()
    for event in range(snapshot.offsets[user], snapshot.offsets[user + 1]):
        if snapshot.consuming[snapshot.behavior[event]]:
            scores[snapshot.item[event]] = -np.inf
    return scores


@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_lists_are_each_users_best(name: str, repeats: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = made(tmp_path / "snapshot", repeats)
    model = untrained(name, snapshot)
    monkeypatch.setattr("hmar.evaluate.ranking.MAX_ROWS", 7)
    batches = list(recommendations(model, snapshot, 36, max_length=10))
    assert len(batches) == 4
    table = pa.Table.from_batches(batches)
    assert table.column_names == ["user_id", "rank", "item_id", "score"]
    shorter = 0
    for user in range(snapshot.n_users):
        rows = table.filter(pa.compute.equal(table.column("user_id"), 1000 + user))
        scores = alone(model, snapshot, user)
        left = int(np.isfinite(scores).sum())
        shorter += left < 36
        assert rows.column("rank").to_pylist() == list(range(1, min(36, left) + 1))
        np.testing.assert_allclose(
            rows.column("score").to_numpy(), -np.sort(-scores)[: min(36, left)], rtol=1e-5, atol=1e-5
        )
        items = rows.column("item_id").to_numpy() - 1000
        np.testing.assert_allclose(scores[items], rows.column("score").to_numpy(), rtol=1e-5, atol=1e-5)
        assert len(set(items.tolist())) == len(items)
    assert (shorter > 0) == (not repeats)


def test_nan_names_the_user(tmp_path: Path) -> None:
    snapshot = made(tmp_path / "snapshot", True)
    model = untrained("popularity", snapshot)
    model.counts[3] = torch.nan
    with pytest.raises(ModelError, match="Popularity scores NaN for user 1000 and 25 others"):
        list(recommendations(model, snapshot, 5, max_length=10))
