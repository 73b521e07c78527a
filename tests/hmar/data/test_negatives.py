"""What each way of drawing negatives promises."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from hmar.data.batches import TrainingData
from hmar.data.negatives import NegativesFrom, NegativesPer
from hmar.data.snapshot import Snapshot
from hmar.errors import SettingsError
from hmar.models.base import TrainingBatch
from tests.hmar.losses.oracle import log_q
from tests.support.arrays import random_users, write_snapshot

SPLIT = "leave_one_out"
WAYS: list[tuple[NegativesFrom, NegativesPer]] = [
    ("uniform", "position"),
    ("uniform", "batch"),
    ("popularity", "position"),
    ("popularity", "batch"),
]


def only_batch(
    snapshot: Snapshot, source: NegativesFrom, per: NegativesPer, count: int, **given: object
) -> TrainingBatch:
    data = TrainingData(
        snapshot,
        SPLIT,
        max_length=50,
        batch_size=100,
        negatives=count,
        negatives_from=source,
        negatives_per=per,
        **given,
    )  # type: ignore[arg-type]
    (batch,) = data.batches(0)
    return batch


def chi_square(drawn: Counter[int], log_probability: list[float]) -> float:
    """How far the counts are from what they should be, in standard deviations."""
    total = sum(drawn.values())
    expected = {item: total * np.exp(q) for item, q in enumerate(log_probability) if q > -np.inf}
    assert set(drawn) <= set(expected)
    found = sum((drawn[item] - mean) ** 2 / mean for item, mean in expected.items())
    return float((found - (len(expected) - 1)) / np.sqrt(2 * (len(expected) - 1)))


@pytest.mark.parametrize(("source", "per"), WAYS)
def test_they_follow_their_distribution_and_say_it(shop: Snapshot, source: NegativesFrom, per: NegativesPer) -> None:
    batch = only_batch(shop, source, per, 40_000 if per == "batch" else 400)
    shared = torch.broadcast_to(batch.negatives, (len(batch.next_item), batch.negatives.shape[-1]))
    assert batch.negative_log_q is not None
    assert batch.negative_log_q.shape == batch.negatives.shape
    said = torch.broadcast_to(batch.negative_log_q, shared.shape)
    for true in range(shop.n_items):
        positions = (batch.next_item == true).nonzero()[:, 0]
        if per == "batch":
            positions, expected = positions[:1], log_q(shop, None, source, None)
        else:
            expected = log_q(shop, None, source, true)
        np.testing.assert_allclose(said[positions], np.array(expected)[shared[positions]], rtol=1e-6)
        assert chi_square(Counter(shared[positions].flatten().tolist()), expected) < 6


def test_popularity_is_of_the_events_that_are_read(shop: Snapshot) -> None:
    batch = only_batch(shop, "popularity", "batch", 500, behaviors=("buy",))
    expected = np.array(log_q(shop, ("buy",), "popularity", None))
    np.testing.assert_allclose(batch.negative_log_q, expected[batch.negatives], rtol=1e-6)
    assert not np.allclose(expected, log_q(shop, None, "popularity", None))


def test_popularity_is_of_training_events_only(tmp_path: Path) -> None:
    users = random_users(20, 10, 3, 12, seed=5, shortest=4)
    others = [[*row[:-2], *((9 - i, b, t) for i, b, t in row[-2:])] for row in users]
    one, other = (
        only_batch(write_snapshot(tmp_path / name, rows, items=10, held_out=2), "popularity", "position", 5)
        for name, rows in (("a", users), ("b", others))
    )
    assert torch.equal(one.negatives, other.negatives)
    assert torch.equal(one.negative_log_q, other.negative_log_q)


def test_unseen_negatives_say_their_probability(shop: Snapshot) -> None:
    (batch,) = TrainingData(shop, SPLIT, max_length=50, batch_size=100, negatives=3).batches(0)
    assert batch.negative_log_q is not None
    for t, user in enumerate(batch.user[batch.histories.row].tolist()):
        had = set(shop.item[shop.offsets[user] : shop.train_end(SPLIT)[user]].tolist())
        expected = np.full(3, -np.log(shop.n_items - len(had)))
        np.testing.assert_allclose(batch.negative_log_q[t], expected, rtol=1e-6)


@pytest.mark.parametrize(("source", "per"), WAYS)
def test_resuming_draws_the_same(shop: Snapshot, source: NegativesFrom, per: NegativesPer) -> None:
    def data() -> TrainingData:
        return TrainingData(
            shop, SPLIT, max_length=5, batch_size=6, negatives=3, negatives_from=source, negatives_per=per, seed=4
        )

    whole, resumed = list(data().batches(3)), list(data().batches(3, start=2))
    assert len(resumed) == len(whole) - 2
    assert all(torch.equal(a.negatives, b.negatives) for a, b in zip(whole[2:], resumed, strict=True))
    assert len({tuple(batch.negatives.flatten().tolist()) for batch in whole}) == len(whole)


def test_a_batch_cannot_share_what_one_user_has_not_had(shop: Snapshot) -> None:
    with pytest.raises(SettingsError, match=r"negatives_per: .* set position"):
        TrainingData(shop, SPLIT, max_length=5, negatives_from="unseen", negatives_per="batch")


def test_without_counts_the_negatives_are_the_same(shop: Snapshot) -> None:
    with_counts = only_batch(shop, "uniform", "position", 3)
    without = only_batch(shop, "uniform", "position", 3, counts=False)
    assert torch.equal(with_counts.negatives, without.negatives)
    assert without.negative_hbi.shape == (len(without.next_item), 0, 3)
