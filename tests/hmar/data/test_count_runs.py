"""Counts at every training position against loops over the event table."""

from pathlib import Path

import pytest
import torch

from hmar.data.batches import TrainingData
from hmar.data.snapshot import Snapshot
from hmar.models.base import TrainingBatch
from tests.support.arrays import random_users, write_snapshot

SPLIT = "leave_one_out"


def table(batch: TrainingBatch, items: int) -> torch.Tensor:
    """The cells as a dense [T, V, R] of counts; every cell is given once."""
    assert batch.count_runs is not None
    position, run = batch.count_runs.cells()
    cell = position * items + batch.count_runs.item[run]
    assert len(cell.unique()) == len(cell)
    counts = torch.zeros(len(batch.next_item) * items, batch.count_runs.counts.shape[1])
    counts[cell] = batch.count_runs.counts[run]
    return counts.view(len(batch.next_item), items, -1)


@pytest.mark.parametrize("max_length", [3, 50])
@pytest.mark.parametrize("behaviors", [None, ("buy",)])
def test_counts_are_of_the_whole_history_before_the_next_event(
    shop: Snapshot, max_length: int, behaviors: tuple[str, ...] | None
) -> None:
    data = TrainingData(shop, SPLIT, max_length=max_length, batch_size=7, negatives=0, behaviors=behaviors)
    codes = range(3) if behaviors is None else [shop.behaviors.index(name) for name in behaviors]
    for batch in data.batches(0):
        got = table(batch, shop.n_items)
        t = 0
        for user in batch.user.tolist():
            rows = [r for r in range(shop.offsets[user], shop.train_end(SPLIT)[user]) if shop.behavior[r] in codes]
            for event in rows[-(max_length + 1) :][1:]:
                expected = torch.zeros(shop.n_items, 3)
                for earlier in range(shop.offsets[user], event):
                    expected[shop.item[earlier], shop.behavior[earlier]] += 1
                assert torch.equal(got[t], expected)
                t += 1
        assert t == len(got)


def test_a_part_of_the_positions_has_its_part_of_the_counts(shop: Snapshot) -> None:
    (batch,) = TrainingData(shop, SPLIT, max_length=6, batch_size=100, negatives=0).batches(0)
    assert batch.count_runs is not None
    whole = table(batch, shop.n_items)
    for start, stop in ((0, 5), (5, 6), (17, 60), (60, len(whole))):
        position, run = (part := batch.count_runs.positions(start, stop)).cells()
        assert int(position.min()) >= 0
        assert int(position.max()) < stop - start
        counts = torch.zeros(stop - start, shop.n_items, 3)
        counts[position, part.item[run]] = part.counts[run]
        assert torch.equal(counts, whole[start:stop])


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_known_sizes_give_the_same_parts(shop: Snapshot, rows: int) -> None:
    (batch,) = TrainingData(shop, SPLIT, max_length=6, batch_size=100, negatives=0).batches(0)
    runs = batch.count_runs
    assert runs is not None
    sizes = runs.sizes(len(batch.next_item), rows)
    assert len(sizes) == -(-len(batch.next_item) // rows)
    for (live, cells), start in zip(sizes, range(0, len(batch.next_item), rows), strict=True):
        plain = runs.positions(start, min(start + rows, len(batch.next_item)))
        known = runs.positions(start, min(start + rows, len(batch.next_item)), live)
        assert torch.equal(known.item, plain.item)
        assert torch.equal(known.first, plain.first)
        for got, expected in zip(known.cells(cells), plain.cells(), strict=True):
            assert torch.equal(got, expected)


def test_they_are_made_where_all_positions_score_the_same_items(shop: Snapshot) -> None:
    def batch(**given: object) -> TrainingBatch:
        return next(TrainingData(shop, SPLIT, max_length=5, **given).batches(0))  # type: ignore[arg-type]

    assert batch(negatives=2).count_runs is None
    assert batch(negatives=0).count_runs is not None
    assert batch(negatives=2, negatives_from="uniform", negatives_per="batch").count_runs is not None
    assert batch(negatives=0, counts=False).count_runs is None


def test_a_batch_without_repeats_and_one_of_one_item(tmp_path: Path) -> None:
    users = [[(i, 0, i) for i in range(5)], [(3, 2, t) for t in range(5)]]
    snapshot = write_snapshot(tmp_path / "s", users, items=5)
    (batch,) = TrainingData(snapshot, SPLIT, max_length=9, negatives=0).batches(0)
    got = table(batch, 5)
    for user, part in zip(batch.user.tolist(), got.split(3), strict=True):
        for t in range(3):
            expected = torch.zeros(5, 3)
            for item, behavior, _ in users[user][: t + 1]:
                expected[item, behavior] += 1
            assert torch.equal(part[t], expected)


def test_random_snapshots_keep_every_event_of_a_history(tmp_path: Path) -> None:
    for seed in range(5):
        users = random_users(6, 4, 3, 30, seed=seed, shortest=3)
        snapshot = write_snapshot(tmp_path / str(seed), users, items=4, seed=seed)
        (batch,) = TrainingData(snapshot, SPLIT, max_length=4, negatives=0).batches(0)
        ends = batch.histories.offsets[1:] - 1
        for user, counts in zip(batch.user.tolist(), table(batch, 4)[ends], strict=True):
            assert int(counts.sum()) == len(users[user]) - 2
