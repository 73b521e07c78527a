"""The best of blocks that come one after another are the head of one full sort."""

import numpy as np
import pytest
import torch

from hmar.evaluate.best_items import BestItems, _keys, _values

TILE = 8


def in_blocks(scores: torch.Tensor, k: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows, items = scores.shape
    padded = torch.full((rows, -(-items // width) * width), -torch.inf)
    padded[:, :items] = scores
    best = BestItems(rows, width, k, scores.device)
    for start in range(0, items, width):
        block = padded[:, start : start + width].contiguous()
        best.add(block, block.unflatten(1, (TILE, -1)).amax(dim=1), start)
    return best.result()


@pytest.mark.parametrize("items", [1, 8, 39, 400, 3001])
@pytest.mark.parametrize("width", [8, 64, 4096])
@pytest.mark.parametrize("kind", ["distinct", "ties", "rising", "falling", "equal"])
def test_the_head_of_a_stable_sort(items: int, width: int, kind: str) -> None:
    rng = np.random.default_rng(items)
    made = {
        "distinct": lambda: rng.permutation(items),
        "ties": lambda: rng.integers(-4, 5, items),
        "rising": lambda: np.arange(items),
        "falling": lambda: -np.arange(items),
        "equal": lambda: np.zeros(items),
    }
    scores = np.stack([made[kind]() for _ in range(6)]).astype(np.float32)
    scores[0, : items // 2] = -np.inf
    scores[1] = -np.inf
    scores[2, items // 3] = np.inf
    values, found = in_blocks(torch.from_numpy(scores), 20, width)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :20]
    expected = np.take_along_axis(scores, order, 1)
    count = order.shape[1]
    np.testing.assert_array_equal(values[:, :count].numpy(), expected)
    np.testing.assert_array_equal(found[:, :count].numpy(), np.where(expected == -np.inf, -1, order))
    assert (values[:, count:] == -np.inf).all()
    assert (found[:, count:] == -1).all()


def test_one_number_per_cell_keeps_the_order_of_floats_and_both_zeros_equal() -> None:
    values = torch.tensor([-torch.inf, -3e38, -1.5, -1e-42, -0.0, 0.0, 1e-42, 2.0, torch.inf])
    same = torch.zeros(len(values), dtype=torch.int64)
    keys = _keys(values, same)
    assert keys.tolist() == sorted(keys.tolist())
    assert keys[4] == keys[5]
    assert torch.equal(_values(keys), values)
    assert _keys(values[:1], same[:1] + 3) < _keys(values[:1], same[:1] + 2)
