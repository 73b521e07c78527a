"""The rules on histories whose answer can be read off."""

from pathlib import Path

import pytest
import torch

from hmar.data.snapshot import Snapshot
from tests.support.arrays import write_snapshot
from tests.support.models import ask, build

# Items 0..5; the last event of each user is held out. Buys in training: item 1 twice, item 2 once.
USERS = [
    [(0, 0, 0), (1, 2, 1), (2, 2, 2), (3, 0, 3), (1, 0, 4), (5, 2, 5)],
    [(1, 2, 0), (4, 0, 1), (4, 0, 2), (4, 0, 3), (2, 2, 4)],
]


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return write_snapshot(tmp_path / "s", USERS, items=6)


def test_popularity_counts_target_events_of_training(snapshot: Snapshot) -> None:
    model = build("popularity", {}, snapshot)
    assert model.score_all(*ask(model, snapshot, [0, 1])).tolist() == [[0, 2, 1, 0, 0, 0]] * 2


def test_popularity_of_all_behaviors(snapshot: Snapshot) -> None:
    model = build("popularity", {"behaviors": "all"}, snapshot)
    assert model.score_all(*ask(model, snapshot, [0])).tolist() == [[1, 3, 1, 1, 3, 0]]


def test_recent_offers_the_latest_first_then_the_popular(snapshot: Snapshot) -> None:
    model = build("recent", {}, snapshot)
    scores = model.score_all(*ask(model, snapshot, [0, 1], [5, 10]))
    assert scores[0].argsort(descending=True).tolist() == [1, 3, 2, 0, 4, 5]
    assert scores[1].argsort(descending=True).tolist() == [4, 1, 2, 0, 3, 5]
    assert all(len(row.unique()) == 6 for row in scores)


def test_recent_of_the_target_behavior(snapshot: Snapshot) -> None:
    model = build("recent", {"behaviors": "target"}, snapshot)
    scores = model.score_all(*ask(model, snapshot, [0], [5]))
    assert scores[0].argsort(descending=True).tolist() == [2, 1, 0, 3, 4, 5]


def test_scores_may_be_overwritten_without_harm(snapshot: Snapshot) -> None:
    for name in ("popularity", "recent"):
        model = build(name, {}, snapshot)
        before = model.score_all(*ask(model, snapshot, [0, 1]))
        model.score_all(*ask(model, snapshot, [0, 1])).fill_(-torch.inf)
        assert torch.equal(model.score_all(*ask(model, snapshot, [0, 1])), before)
