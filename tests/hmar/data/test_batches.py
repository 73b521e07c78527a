"""Training batches against loops over the event table, and what the sampler promises."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from hmar.data.batches import TrainingData
from hmar.data.snapshot import Snapshot
from hmar.errors import DataError
from hmar.models.base import TrainingBatch
from tests.support.arrays import random_users, write_snapshot

SPLIT = "leave_one_out"


def tensors(batch: TrainingBatch) -> list[torch.Tensor]:
    histories = batch.histories
    return [
        *(getattr(histories, name) for name in ("item", "behavior", "time", "hbi", "offsets", "asked", "now")),
        *(
            getattr(batch, name)
            for name in ("next_item", "next_behavior", "next_hbi", "negatives", "negative_hbi", "user")
        ),
    ]


@pytest.mark.parametrize("max_length", [3, 50])
@pytest.mark.parametrize("behaviors", [None, ("buy",), ("view", "cart")])
def test_every_position_predicts_the_next(shop: Snapshot, max_length: int, behaviors: tuple[str, ...] | None) -> None:
    data = TrainingData(
        shop, SPLIT, max_length=max_length, batch_size=7, negatives=2, negatives_from="uniform", behaviors=behaviors
    )
    codes = range(3) if behaviors is None else [shop.behaviors.index(name) for name in behaviors]
    train_end = shop.train_end(SPLIT)
    met = []
    for batch in data.batches(0):
        histories = batch.histories
        for place, user in enumerate(batch.user.tolist()):
            met.append(user)
            rows = [r for r in range(shop.offsets[user], train_end[user]) if shop.behavior[r] in codes]
            rows = rows[-(max_length + 1) :]
            part = slice(int(histories.offsets[place]), int(histories.offsets[place + 1]))
            assert histories.item[part].tolist() == shop.item[rows[:-1]].tolist()
            assert histories.behavior[part].tolist() == shop.behavior[rows[:-1]].tolist()
            assert histories.hbi[part].tolist() == shop.hbi[rows[:-1]].tolist()
            assert batch.next_item[part].tolist() == shop.item[rows[1:]].tolist()
            assert batch.next_behavior[part].tolist() == shop.behavior[rows[1:]].tolist()
            assert batch.next_hbi[part].tolist() == shop.hbi[rows[1:]].tolist()
            assert int(histories.now[place]) == shop.time[rows[-1]]
            for row, negatives, counts in zip(
                rows[1:], batch.negatives[part].tolist(), batch.negative_hbi[part].tolist(), strict=True
            ):
                for item, got in zip(negatives, counts, strict=True):
                    expected = [0, 0, 0]
                    for earlier in range(shop.offsets[user], row):
                        expected[shop.behavior[earlier]] += int(shop.item[earlier] == item)
                    expected[shop.behavior[row]] += 1
                    assert got == expected
                    assert item != shop.item[row]
    enough = [
        u
        for u in range(shop.n_users)
        if sum(shop.behavior[r] in codes for r in range(shop.offsets[u], train_end[u])) >= 2
    ]
    assert sorted(met) == enough == data.windows.user.tolist()
    assert data.tokens == sum(len(batch.next_item) for batch in data.batches(1))
    assert data.steps == len(list(data.batches(1)))


def test_the_true_item_obeys_the_candidate_rule(shop: Snapshot) -> None:
    """Counts before the event plus one for its behavior: what a negative gets too."""
    data = TrainingData(shop, SPLIT, max_length=9, batch_size=100)
    (batch,) = data.batches(0)
    rows = shop.offsets[batch.user.numpy()][batch.histories.row.numpy()]
    for t in range(len(batch.next_item)):
        user = batch.user[batch.histories.row[t]].item()
        item, end = int(batch.next_item[t]), None
        window_end = shop.train_end(SPLIT)[user] - int(batch.histories.from_end[t])
        end = window_end - 1
        prior = (
            data.prior.of(np.array([user])).lookup(np.array([0]), np.array([item]), np.array([end]))[0].astype(float)
        )
        prior[int(batch.next_behavior[t])] += 1
        assert batch.next_hbi[t].tolist() == prior.tolist()
        assert rows[t] <= end


def test_unseen_negatives_are_uniform_over_what_the_user_has_not_had(shop: Snapshot) -> None:
    data = TrainingData(shop, SPLIT, max_length=50, batch_size=100, negatives=400, negatives_from="unseen")
    train_end = shop.train_end(SPLIT)
    (batch,) = data.batches(0)
    owner = batch.user[batch.histories.row]
    for user in batch.user.tolist():
        had = set(shop.item[shop.offsets[user] : train_end[user]].tolist())
        allowed = sorted(set(range(shop.n_items)) - had)
        drawn = Counter(batch.negatives[owner == user].flatten().tolist())
        assert sorted(drawn) == allowed
        expected = sum(drawn.values()) / len(allowed)
        chi_square = sum((n - expected) ** 2 / expected for n in drawn.values())
        assert chi_square < len(allowed) + 6 * (2 * len(allowed)) ** 0.5


def test_uniform_negatives_are_uniform_over_all_but_the_true_item(shop: Snapshot) -> None:
    data = TrainingData(shop, SPLIT, max_length=50, batch_size=100, negatives=300, negatives_from="uniform")
    (batch,) = data.batches(0)
    for t in range(0, len(batch.next_item), 17):
        drawn = set(batch.negatives[t].tolist())
        assert drawn == set(range(shop.n_items)) - {int(batch.next_item[t])}


def test_a_user_who_has_had_everything_gets_the_whole_catalog(tmp_path: Path) -> None:
    rows = [[(0, 0, 0), (1, 1, 1), (2, 2, 2), (0, 0, 3)], [(0, 0, 0), (1, 0, 1), (0, 0, 2)]]
    snapshot = write_snapshot(tmp_path / "s", rows, items=3)
    data = TrainingData(snapshot, SPLIT, max_length=5, negatives=50)
    (batch,) = data.batches(0)
    owner = batch.user[batch.histories.row]
    assert set(batch.negatives[owner == 0].flatten().tolist()) == {0, 1, 2}
    assert set(batch.negatives[owner == 1].flatten().tolist()) == {2}


def test_an_epoch_is_a_permutation_that_depends_on_seed_and_epoch(shop: Snapshot) -> None:
    data = TrainingData(shop, SPLIT, max_length=5, seed=1)
    other = TrainingData(shop, SPLIT, max_length=5, seed=2)
    orders = [one.windows.tolist() for one in (data.order(0), data.order(1), other.order(0))]
    for order in orders:
        assert sorted(order) == list(range(len(data.windows)))
    assert len({tuple(order) for order in orders}) == 3
    assert data.order(0).windows.tolist() == orders[0]


def test_resuming_gives_the_same_batches(shop: Snapshot) -> None:
    def data() -> TrainingData:
        return TrainingData(shop, SPLIT, max_length=5, batch_size=6, negatives=3, seed=4)

    whole = list(data().batches(3))
    resumed = list(data().batches(3, start=2))
    assert len(resumed) == len(whole) - 2
    for a, b in zip(whole[2:], resumed, strict=True):
        for x, y in zip(tensors(a), tensors(b), strict=True):
            assert torch.equal(x, y)
    assert not torch.equal(whole[0].negatives, whole[1].negatives[: len(whole[0].negatives)])


def test_nothing_held_out_is_read(tmp_path: Path) -> None:
    """Replacing every held-out event leaves all batches as they were."""
    users = random_users(20, 10, 3, 12, seed=5)
    others = [[*row[:-2], *((9 - i, 2 - b, t) for i, b, t in row[-2:])] for row in users]
    one, other = (
        write_snapshot(tmp_path / name, rows, items=10, held_out=2) for name, rows in (("a", users), ("b", others))
    )
    for a, b in zip(
        TrainingData(one, SPLIT, max_length=6).batches(0),
        TrainingData(other, SPLIT, max_length=6).batches(0),
        strict=True,
    ):
        for x, y in zip(tensors(a), tensors(b), strict=True):
            assert torch.equal(x, y)


def test_no_negatives_where_the_loss_needs_none(shop: Snapshot) -> None:
    batch = next(TrainingData(shop, SPLIT, max_length=5, negatives=0).batches(0))
    tokens = len(batch.next_item)
    assert batch.negatives.shape == (tokens, 0)
    assert batch.negative_hbi.shape == (tokens, 0, 3)


def test_nothing_to_learn_is_an_error(tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path / "s", [[(0, 0, 0), (1, 0, 1), (0, 2, 2)]] * 3, items=2)
    with pytest.raises(DataError, match="no user has two training events of buy, so there is nothing to learn"):
        TrainingData(snapshot, SPLIT, max_length=5, behaviors=("buy",))


def test_one_item_has_no_negative(tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path / "s", [[(0, 0, t) for t in range(4)]], items=1, candidates=0)
    with pytest.raises(DataError, match="one item only"):
        next(TrainingData(snapshot, SPLIT, max_length=5).batches(0))
