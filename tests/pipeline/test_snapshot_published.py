"""The split that repeats the published code: what it holds out, what a history holds, and where it leaks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hmar.data.batches import TrainingData
from hmar.data.counting import popularity
from hmar.data.snapshot import PARTS, Snapshot
from hmar.errors import DataError, SettingsError
from hmar.evaluate.judge import judge
from hmar.train.settings import TrainSettings
from pipeline.settings import SPLITS, RetrainSettings
from tests.support.events import Event
from tests.support.tiny_snapshot import make_snapshot, random_events, snapshot_run
from tests.support.untrained import untrained

DAY = 86_400


def published(tmp_path: Path, events: list[Event], **options: Any) -> Snapshot:
    return make_snapshot(tmp_path, events, splits=SPLITS, **options)


def histories(snapshot: Snapshot, split: str = "published") -> dict[int, list[tuple[int, str]]]:
    """(item, behavior) of what stands in the history of each test target, by user."""
    users, items = snapshot.users["user_id"].to_pylist(), snapshot.items["item_id"].to_pylist()
    targets = snapshot.targets(split, "test")
    return {
        users[user]: [
            (items[snapshot.item[row]], snapshot.behaviors[snapshot.behavior[row]])
            for row in range(snapshot.offsets[user], end)
        ]
        for user, end in zip(targets.user, targets.history_end, strict=True)
    }


def test_the_last_target_event_is_held_out_and_what_follows_it_is_dropped(tmp_path: Path) -> None:
    events: list[Event] = [
        (1, 10, "view", 1),
        (1, 11, "buy", 2),
        (1, 12, "buy", 3),
        (1, 13, "view", 4),
        (2, 10, "view", 1),
        (2, 11, "view", 2),
        (2, 12, "view", 3),
    ]
    snapshot = published(tmp_path, events)
    assert histories(snapshot) == {1: [(10, "view"), (11, "buy")]}
    for part in PARTS:
        targets = snapshot.targets("published", part)
        assert snapshot.items["item_id"].take(targets.item).to_pylist() == [12]
        assert targets.catalog.tolist() == [4], "the item of the view after it included"
    trained = dict(
        zip(
            snapshot.users["user_id"].to_pylist(),
            snapshot.train_end("published") - snapshot.offsets[:-1],
            strict=True,
        )
    )
    assert trained == {1: 2, 2: 3}


@pytest.mark.parametrize(
    ("behaviors", "judged", "trained"),
    [
        (["view", "buy"], False, 2),
        (["buy", "buy"], False, 2),
        (["view", "view", "buy"], True, 2),
        (["buy", "view", "view"], False, 0),
        (["view", "buy", "view"], True, 1),
        (["view", "view", "cart"], False, 3),
    ],
)
def test_who_is_judged(tmp_path: Path, behaviors: list[str], judged: bool, trained: int) -> None:
    """Three events of any behavior make a target of the last purchase; without a history it is dropped, not trained."""
    own: list[Event] = [(1, 10 + n, behavior, n) for n, behavior in enumerate(behaviors)]
    snapshot = published(tmp_path, [*own, (2, 10, "buy", 50), (2, 11, "buy", 51), (2, 11, "buy", 52)])
    (user,) = (n for n, name in enumerate(snapshot.users["user_id"].to_pylist()) if name == 1)
    for part in PARTS:
        assert (user in snapshot.targets("published", part).user) == judged
    assert snapshot.train_end("published")[user] - snapshot.offsets[user] == trained


def test_a_history_holds_the_targets_own_time(tmp_path: Path) -> None:
    """A log of days: the view of the bought item on the day of the purchase gives it away, and only here."""
    events: list[Event] = [(1, 10, "view", 0), (1, 11, "buy", DAY), (1, 12, "view", DAY), (1, 12, "buy", 2 * DAY)]
    events += [(1, 13, "view", 3 * DAY), (1, 13, "buy", 3 * DAY)]
    snapshot = published(tmp_path, events)
    assert (13, "view") in histories(snapshot)[1]
    assert (13, "view") not in histories(snapshot, "leave_one_out")[1]
    assert snapshot.targets("published", "test").repeat.tolist() == [True]
    assert snapshot.targets("leave_one_out", "test").repeat.tolist() == [False]


def test_both_parts_have_the_same_targets_and_negatives(tmp_path: Path) -> None:
    snapshot = published(tmp_path, random_events(40, 60, 1500, seed=1), candidates=20)
    validation, test = (snapshot.targets("published", part) for part in PARTS)
    assert len(test) > 30
    assert np.array_equal(validation.event, test.event)
    drawn = snapshot.candidates("published", test)
    assert np.array_equal(snapshot.candidates("published", validation), drawn)
    for n in range(len(test)):
        history = snapshot.item[snapshot.offsets[test.user[n]] : test.history_end[n]]
        assert not set(drawn[n]) & {*history, test.item[n]}, "negatives are unseen, whatever the settings say"


@pytest.mark.parametrize("repeats", [True, False])
def test_training_does_not_see_the_target(tmp_path: Path, repeats: bool) -> None:
    snapshot = published(tmp_path, random_events(40, 60, 1500, seed=2), repeats=repeats)
    test, ends = snapshot.targets("published", "test"), snapshot.train_end("published")
    assert (ends[test.user] == test.event).all()
    assert (test.history_end == test.event).all()
    data = TrainingData(snapshot, "published", max_length=10_000)
    assert data.tokens == (ends - snapshot.offsets[:-1]).clip(min=1).sum() - snapshot.n_users
    assert popularity(snapshot, "published", None).sum() == (ends - snapshot.offsets[:-1]).sum()
    judged = judge(untrained("popularity", snapshot, "published"), snapshot, "published", "test", max_length=50)
    assert np.isfinite(judged.mean("ndcg@10"))


# -- settings ----------------------------------------------------------------------------------------------------


def test_published_is_built_where_it_is_named(tmp_path: Path) -> None:
    events = random_events(20, 30, 400, seed=3)
    usual = make_snapshot(tmp_path, events)
    assert set(usual.manifest.splits) == {"leave_one_out", "temporal"}
    assert not any("published" in note for note in usual.manifest.notes)
    both = make_snapshot(tmp_path, events, splits=["published", "leave_one_out"])
    assert set(both.manifest.splits) == {"leave_one_out", "published"}
    assert any("leaks by intent" in note for note in both.manifest.notes)
    with pytest.raises(DataError, match="no split 'temporal'; it has: leave_one_out, published"):
        both.targets("temporal", "test")
    assert both.manifest.id == make_snapshot(tmp_path, events, splits=["leave_one_out", "published"]).manifest.id


def test_the_split_of_the_run_is_always_built() -> None:
    def splits(**values: Any) -> tuple[str, ...]:
        words = {"dataset": "taobao", "raw": "x", **values}
        return RetrainSettings.resolve(words, use_environment=False).snapshot.splits

    assert splits() == ("leave_one_out", "temporal")
    assert splits(split="published") == ("leave_one_out", "temporal", "published")
    assert splits(split="published", snapshot={"splits": ["temporal"]}) == ("temporal", "published")
    assert splits(snapshot={"splits": ["temporal"]}) == ("leave_one_out", "temporal")
    trained = {"model": "popularity", "snapshot": "x", "out": "y", "split": "published"}
    assert TrainSettings.resolve(trained, use_environment=False).split == "published"


@pytest.mark.parametrize("wrong", [[], ["temporal", "temporal"], ["last_item"]])
def test_a_wrong_list_of_splits_is_refused(tmp_path: Path, wrong: list[str]) -> None:
    with pytest.raises(SettingsError, match=r"snapshot\.splits"):
        snapshot_run(tmp_path, splits=wrong)


# -- taken back, one by one --------------------------------------------------------------------------------------


def test_a_validation_of_its_own_is_the_target_event_before_and_nothing_else_moves(tmp_path: Path) -> None:
    events = random_events(40, 60, 1500, seed=3)
    usual = published(tmp_path, events)
    own = published(tmp_path, events, published={"own_validation": True})
    before, test = (snapshot.targets("published", "test") for snapshot in (usual, own))
    assert np.array_equal(before.event, test.event)
    assert np.array_equal(before.history_end, test.history_end)
    assert np.array_equal(usual.candidates("published", before), own.candidates("published", test))

    validation = own.targets("published", "validation")
    assert len(validation) > 30
    ends, offsets = own.train_end("published"), own.offsets
    event_of = dict(zip(validation.user.tolist(), validation.event.tolist(), strict=True))
    for user, held_out in zip(test.user.tolist(), test.event.tolist(), strict=True):
        rows = np.arange(offsets[user] + 1, held_out)
        earlier = rows[own.behavior[rows] == own.target_behavior]
        assert event_of.get(user, -1) == (earlier[-1] if len(earlier) else -1)
        assert ends[user] == (earlier[-1] if len(earlier) else held_out)
    assert set(event_of) <= set(test.user.tolist())
    assert (validation.history_end == validation.event).all()
    unheld = np.setdiff1d(np.arange(own.n_users), test.user)
    assert np.array_equal(ends[unheld], usual.train_end("published")[unheld])


def test_negatives_of_the_published_split_can_be_uniform(tmp_path: Path) -> None:
    events = random_events(40, 30, 1500, seed=4)
    usual = published(tmp_path, events, candidates=15)
    uniform = published(tmp_path, events, candidates=15, published={"unseen": False})
    before, test = (snapshot.targets("published", "test") for snapshot in (usual, uniform))
    assert np.array_equal(before.event, test.event)
    assert np.array_equal(usual.train_end("published"), uniform.train_end("published"))
    drawn, seen = uniform.candidates("published", test), 0
    for n in range(len(test)):
        assert test.item[n] not in drawn[n]
        seen += len(np.intersect1d(uniform.item[uniform.offsets[test.user[n]] : test.history_end[n]], drawn[n]))
    assert seen > len(test), "items of the history are negatives as any others"
    both = published(tmp_path, events, unseen=True, published={"unseen": False}, candidates=5)
    targets = both.targets("published", "test")
    first = both.item[both.offsets[targets.user[0]] : targets.history_end[0]]
    assert not set(both.candidates("published", targets)[0]) & set(first), "snapshot.unseen is for all splits"
