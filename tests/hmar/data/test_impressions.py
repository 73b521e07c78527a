"""Batches of labelled impressions against a walk over the stored rows, one moment at a time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.impressions import ImpressionBatch, ImpressionData
from hmar.data.snapshot import Snapshot
from hmar.errors import DataError
from tests.hmar.data.test_shares import assert_same
from tests.support.arrays import random_users, write_impressions, write_snapshot

SPLIT = "leave_one_out"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    users = random_users(40, 25, 3, 20, seed=3, shortest=1)
    return write_impressions(write_snapshot(tmp_path_factory.mktemp("shop") / "s", users, items=25), sampled=4)


def data(shop: Snapshot, **given: Any) -> ImpressionData:
    return ImpressionData(shop, SPLIT, **{"max_length": 6, "batch_size": 9, **given})


def candidates(batch: ImpressionBatch, row: int) -> dict[int, tuple[int, bool]]:
    """item: (label, sampled) of one moment."""
    real = batch.real[row]
    columns = (
        batch.items[row][real].tolist(),
        batch.labels[row][real].int().tolist(),
        batch.sampled[row][real].tolist(),
    )
    found = {item: (label, sampled) for item, label, sampled in zip(*columns, strict=True)}
    assert len(found) == int(real.sum()), "an item stands twice"
    return found


@pytest.mark.parametrize("behaviors", [None, ("view", "cart")])
def test_a_batch_is_what_the_rows_say(shop: Snapshot, behaviors: tuple[str, ...] | None) -> None:
    shown = shop.impressions(SPLIT, "training")
    read = {shop.behaviors.index(name) for name in behaviors or shop.behaviors}
    left = {}
    for m in range(len(shown)):
        user, time = int(shown.user[m]), int(shown.time[m])
        rows = [r for r in range(shop.offsets[user], shop.offsets[user + 1]) if shop.time[r] < time]
        events = [(int(shop.item[r]), int(shop.behavior[r])) for r in rows if int(shop.behavior[r]) in read][-6:]
        cells = range(shown.offsets[m], shown.offsets[m + 1])
        if events:
            left[user, time] = (
                events,
                {int(shown.item[c]): (int(shown.label[c]), bool(shown.sampled[c])) for c in cells},
            )
    seen: dict[tuple[int, int], set[int]] = {key: set() for key in left}
    for epoch in range(12):
        batches = list(data(shop, behaviors=behaviors, negatives=2).batches(epoch))
        keys = [
            (int(user), int(now))
            for batch in batches
            for user, now in zip(batch.user, batch.histories.now, strict=True)
        ]
        assert sorted(keys) == sorted(left), "every moment once an epoch"
        for batch in batches:
            for row, key in enumerate(zip(batch.user.tolist(), batch.histories.now.tolist(), strict=True)):
                events, stored = left[key]
                tokens = slice(int(batch.histories.offsets[row]), int(batch.histories.offsets[row + 1]))
                pairs = zip(
                    batch.histories.item[tokens].tolist(), batch.histories.behavior[tokens].tolist(), strict=True
                )
                assert list(pairs) == events
                found = candidates(batch, row)
                assert found.items() <= stored.items()
                drawn = {item for item, (_, sampled) in found.items() if sampled}
                assert set(stored) - set(found) == {i for i, (_, sampled) in stored.items() if sampled} - drawn
                assert len(drawn) == 2 * sum(label for label, _ in stored.values())
                seen[key] |= set(found)
        assert (batches[0].histories.asked == shop.target_behavior).all()
        assert sum(int(batch.real.sum()) for batch in batches) == data(shop, behaviors=behaviors, negatives=2).tokens
    assert all(seen[key] == set(stored) for key, (_, stored) in left.items()), "chance gets to all that are stored"


def test_a_batch_depends_on_seed_epoch_and_step_alone(shop: Snapshot) -> None:
    given = {"in_batch": 2, "negatives": 1, "seed": 5}
    whole = list(data(shop, **given).batches(3))
    again = data(shop, **given)
    list(again.batches(0))
    for one, other in zip(again.batches(3, start=2), whole[2:], strict=True):
        assert_same(one, other)
    assert not torch.equal(next(data(shop, **given).batches(4)).user, whole[0].user)
    assert not torch.equal(next(data(shop, **{**given, "seed": 6}).batches(3)).user, whole[0].user)
    assert set(again.users(3, 1).tolist()) == set(whole[1].user.tolist())


@pytest.mark.parametrize("size", [2, 3, 20])
def test_shares_are_parts_of_the_batch(shop: Snapshot, size: int) -> None:
    one = data(shop, in_batch=1)
    shares = [one.shares(1, rank=rank, size=size) for rank in range(size)]
    for batch, *parts in zip(one.batches(1), *shares, strict=True):
        assert {total for _, total in parts} == {int(batch.real.sum())}
        assert torch.cat([part.user for part, _ in parts]).tolist() == batch.user.tolist()
        assert_same(torch.cat([part.items for part, _ in parts]), batch.items)
        assert torch.cat([part.histories.item for part, _ in parts]).tolist() == batch.histories.item.tolist()
        for part, _ in parts:
            assert len(part.histories) == len(part.items)


def test_others_positives_are_negatives(shop: Snapshot) -> None:
    for plain, batch in zip(data(shop).batches(0), data(shop, in_batch=3).batches(0), strict=True):
        yes = {item for row in range(len(plain.items)) for item, (label, _) in candidates(plain, row).items() if label}
        for row in range(len(batch.items)):
            own, more = candidates(plain, row), candidates(batch, row)
            assert own.items() <= more.items()
            added = {item: more[item] for item in more.keys() - own.keys()}
            assert set(added) <= yes - set(own)
            assert set(added.values()) <= {(0, True)}
            assert len(added) <= (3 if any(label for label, _ in own.values()) else 0)
        assert batch.real.sum() > plain.real.sum()


def test_what_cannot_be_learned_from_is_refused(tmp_path: Path) -> None:
    users = random_users(10, 9, 3, 12, seed=1, shortest=4)
    snapshot = write_snapshot(tmp_path / "s", users, items=9)
    with pytest.raises(DataError, match=r"no labelled impressions of split leave_one_out; set snapshot.impressions"):
        data(snapshot)
    yes = write_impressions(snapshot, negative=(), sampled=0)
    with pytest.raises(DataError, match="no negative impression with a history to train on"):
        data(yes)
    assert data(yes, in_batch=1).steps > 0
    no = write_impressions(snapshot, positive=(), negative=("view",), sampled=0)
    with pytest.raises(DataError, match="no positive impression"):
        data(no)


def test_the_parts_are_apart(shop: Snapshot) -> None:
    moments = [shop.impressions(SPLIT, part).moment.tolist() for part in ("training", "validation", "test")]
    together = [moment for part in moments for moment in part]
    assert len(set(together)) == len(together)
    assert np.all(shop.impressions(SPLIT, "training").label <= 1)
