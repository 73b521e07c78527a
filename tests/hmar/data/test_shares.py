"""What a process of several gathers is its part of the very batch that one process would have."""

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hmar.data.batches import TrainingData
from hmar.data.snapshot import Snapshot
from hmar.train.parts import part
from tests.support.arrays import random_users, write_snapshot

LONGEST = 9

DRAWS: dict[str, dict[str, Any]] = {
    "unseen": {"negatives": 2},
    "uniform": {"negatives": 3, "negatives_from": "uniform"},
    "popularity": {"negatives": 3, "negatives_from": "popularity"},
    "shared": {"negatives": 8, "negatives_from": "popularity", "negatives_per": "batch"},
    "none": {"negatives": 0},
    "recency-own": {"negatives": 2, "recency": True},
    "recency-shared": {"negatives": 8, "negatives_from": "popularity", "negatives_per": "batch", "recency": True},
    "recency-none": {"negatives": 0, "recency": True},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Users of very different lengths; some have had every item."""
    users = random_users(60, 12, 3, 40, seed=5, shortest=2)
    return write_snapshot(tmp_path_factory.mktemp("shop"), users, items=12)


def assert_same(got: Any, expected: Any) -> None:
    assert type(got) is type(expected)
    if isinstance(got, Tensor):
        assert got.dtype == expected.dtype
        assert torch.equal(got, expected)
    elif is_dataclass(got):
        for field in fields(got):
            assert_same(getattr(got, field.name), getattr(expected, field.name))
    else:
        assert got == expected


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("size", [2, 3, 40])
def test_shares_are_parts_of_the_batch(shop: Snapshot, draw: str, size: int) -> None:
    data = TrainingData(shop, "leave_one_out", max_length=LONGEST, batch_size=17, **DRAWS[draw])
    shares = [data.shares(0, start=1, rank=rank, size=size) for rank in range(size)]
    steps = 0
    for batch, own in zip(data.batches(0, start=1), zip(*shares, strict=True), strict=True):
        steps += 1
        users = 0
        for share, positions in own:
            assert positions == len(batch.next_item)
            assert len(share.next_item) <= positions / size + LONGEST
            assert_same(share, part(batch, users, users + len(share.user)))
            users += len(share.user)
        assert users == len(batch.user)
    assert steps == data.steps - 1


def test_a_share_reads_no_history_of_the_others(shop: Snapshot) -> None:
    """What the others did when, and how often, may be anything."""
    data = TrainingData(shop, "leave_one_out", max_length=LONGEST, batch_size=17)
    share, _ = next(data.shares(0, rank=1, size=3))
    others = np.ones(shop.n_users, bool)
    others[share.user.numpy()] = False
    rows = np.repeat(others, np.diff(shop.offsets))
    for column in ("behavior", "time", "hbi"):
        spoiled = getattr(shop, column).copy()
        spoiled[rows] = 99
        object.__setattr__(shop, column, spoiled)
    again, _ = next(data.shares(0, rank=1, size=3))
    assert_same(again, share)
