"""The scan in blocks against the whole matrix, sorted and counted row by row."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hmar.data.counting import PriorCounts
from hmar.data.snapshot import Snapshot
from hmar.data.targets import histories_before
from hmar.errors import ModelError
from hmar.evaluate.ranking import consumed_cells
from hmar.evaluate.scan import CACHE_CELLS, TILE, Excluded, Scan, block_width, scan
from hmar.models import MODELS
from hmar.models.base import Encoder, Recommender
from hmar.models.catalog import CatalogScores, Matrix, Products
from tests.support.arrays import random_users, write_snapshot
from tests.support.untrained import untrained

ITEMS, USERS, K = 300, 25, 20


def as_the_scan_has_them(scores: CatalogScores, items: int, width: int) -> np.ndarray:
    """[B, V], block by block: a product rounds by its shape, so other shapes give other last bits."""
    buffer = scores.buffer(width)
    blocks = [buffer[:, : items - start].clone() for start in scores.blocks(buffer, items)]
    return torch.cat(blocks, dim=1).numpy()


def compare(found: Scan, scores: np.ndarray, excluded: Excluded, target: np.ndarray, k: int) -> None:
    """With everything sorted and counted row by row."""
    scores = scores.copy()
    scores[excluded.row, excluded.item] = -np.inf
    for row, (values, catalog) in enumerate(zip(scores, excluded.catalog, strict=True)):
        values[catalog:] = -np.inf
        own = values[target[row]]
        expected = math.inf if own == -np.inf else float((values >= own).sum())
        assert found.rank[row] == expected
        order = [item for item in np.argsort(-values, kind="stable")[:k].tolist() if values[item] > -np.inf]
        assert found.items[row].tolist() == order + [-1] * (k - len(order))
        np.testing.assert_array_equal(found.values[row].numpy(), [*values[order], *[-np.inf] * (k - len(order))])


def exclusions(rng: np.random.Generator, rows: int, items: int, target: np.ndarray) -> Excluded:
    """Some cells, never a target's, and a catalog per row that may be empty."""
    row, item = np.nonzero(rng.random((rows, items)) < 0.1)
    kept = item != target[row]
    catalog = rng.integers(0, items + 1, rows) if rng.random() < 0.7 else np.full(rows, items)
    return Excluded(row[kept], item[kept], catalog.astype(np.int32))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 9),
    items=st.integers(1, 400),
    width=st.sampled_from([TILE, 2 * TILE, 8 * TILE]),
    k=st.integers(0, 30),
    different=st.integers(1, 400),
)
def test_products_are_ranked_as_one_matrix_would_be(
    seed: int, rows: int, items: int, width: int, k: int, different: int
) -> None:
    """Few different vectors: many items have the same one, in different blocks, and are equals, by the last bit."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    which = rng.integers(0, different, items)
    vectors = torch.randn(different, 7, generator=generator)[torch.from_numpy(which)]
    cell_row, cell_item = np.nonzero(rng.random((rows, items)) < 0.05)
    scores = Products(
        states=torch.randn(rows, 7, generator=generator),
        vectors=vectors,
        row=torch.from_numpy(cell_row),
        item=torch.from_numpy(cell_item),
        own=torch.randn(len(cell_row), generator=generator),
        empty=torch.from_numpy(np.flatnonzero(rng.random(rows) < 0.2)),
        popularity=torch.from_numpy(rng.integers(0, 4, items).astype(np.float32)),
    )
    target = rng.integers(0, items, rows)
    excluded = exclusions(rng, rows, items, target)
    found = scan(scores, excluded, k, width, torch.from_numpy(target))
    whole = as_the_scan_has_them(scores, items, width)
    np.testing.assert_allclose(whole, scores.matrix().numpy(), rtol=1e-5, atol=1e-5)
    compare(found, whole, excluded, target, k)
    plain = np.ones((rows, items), bool)
    plain[cell_row, cell_item] = False
    plain[scores.empty] = False
    first = np.unique(which, return_index=True)[1][np.unique(which, return_inverse=True)[1]]
    equals = plain & plain[:, first]
    np.testing.assert_array_equal(whole[equals], whole[:, first][equals])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    users = [*random_users(USERS - 2, ITEMS, 3, 40), [], []]
    return write_snapshot(tmp_path_factory.mktemp("shop") / "snapshot", users, items=ITEMS, repeats=False)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**31),
    one_kind=st.booleans(),
    width=st.sampled_from([TILE, 3 * TILE, 5 * TILE]),
)
def test_every_model_is_ranked_as_its_matrix_says(
    name: str, seed: int, one_kind: bool, width: int, shop: Snapshot
) -> None:
    """Whatever behaviors are asked for, consumed cells, catalogs of other times and empty histories included."""
    rng = np.random.default_rng(seed)
    model = untrained(name, shop, seed=seed % 5)
    users = rng.permutation(USERS)[: rng.integers(1, USERS + 1)]
    ends = rng.integers(shop.offsets[users], shop.offsets[users + 1] + 1)
    asked = np.full(len(users), 2) if one_kind else rng.integers(0, 3, len(users))
    now = np.full(len(users), shop.time.max() + 1)
    row, item = consumed_cells(shop, users, ends)
    consumed = np.zeros((len(users), ITEMS), bool)
    consumed[row, item] = True
    target = np.array([rng.choice(np.flatnonzero(~free)) for free in consumed])
    excluded = Excluded(row, item, rng.integers(ITEMS // 2, ITEMS + 1, len(users)).astype(np.int32))
    with torch.inference_mode():
        histories = histories_before(shop, users, ends, now, asked, 10, model.reads)
        seen = PriorCounts(shop).history_items(users, ends)
        scores = model.catalog().scores(histories, seen)
        found = scan(scores, excluded, K, width, torch.from_numpy(target))
        whole = as_the_scan_has_them(scores, ITEMS, width)
        np.testing.assert_allclose(whole, model.score_all(histories, seen).numpy(), rtol=1e-4, atol=1e-5)
        some = torch.from_numpy(rng.integers(0, ITEMS, (len(users), 99)))
        picked, scored = scores.pick(some).numpy(), model.score(histories, seen, some).numpy()
        np.testing.assert_allclose(picked, scored, rtol=1e-4, atol=1e-5)
    compare(found, whole, excluded, target, K)


def test_encoders_never_hold_the_whole_matrix(shop: Snapshot) -> None:
    for name in MODELS:
        model = untrained(name, shop)
        assert model.catalog().whole != isinstance(model, Encoder)


class _RoundedOtherwise(Matrix):
    """Whose scores computed ahead are not quite those of its blocks."""

    def of(self, item_B: Tensor, width: int) -> Tensor:
        return super().of(item_B, width) + 1


def test_a_target_whose_block_rounds_otherwise_is_counted_again() -> None:
    scores = torch.arange(200.0).repeat(3, 1)
    nothing = np.zeros(0, np.int64)
    excluded = Excluded(nothing, nothing, np.full(3, 200, np.int32))
    found = scan(_RoundedOtherwise(scores), excluded, 3, TILE, torch.tensor([199, 150, 0]))
    assert found.rank.tolist() == [1, 50, 200]
    assert found.items.tolist() == [[199, 198, 197]] * 3


def test_nan_is_offered_for_refusal_unless_it_is_excluded() -> None:
    def refuse(largest: Tensor) -> None:
        if largest.isnan().any():
            raise ModelError(f"row {int(largest.isnan().nonzero()[0])}")

    scores = torch.zeros(3, 200)
    scores[1, 130] = torch.nan
    nothing = np.zeros(0, np.int64)
    whole, without = np.full(3, 200, np.int32), np.array([200, 130, 200], np.int32)
    for target in (None, torch.tensor([0, 1, 2])):
        with pytest.raises(ModelError, match="row 1"):
            scan(Matrix(scores), Excluded(nothing, nothing, whole), 5, TILE, target, refuse)
        scan(Matrix(scores), Excluded(nothing, nothing, without), 5, TILE, target, refuse)
        scan(Matrix(scores), Excluded(np.array([1]), np.array([130]), whole), 5, TILE, target, refuse)


def test_no_rows_and_no_catalog() -> None:
    nothing = np.zeros(0, np.int64)
    none = scan(
        Matrix(torch.zeros(0, 9)), Excluded(nothing, nothing, np.zeros(0, np.int32)), 3, TILE, torch.zeros(0).long()
    )
    assert (none.rank.shape, none.items.shape) == ((0,), (0, 3))
    unseen = Excluded(nothing, nothing, np.zeros(2, np.int32))
    found = scan(Matrix(torch.zeros(2, 9)), unseen, 3, TILE, torch.tensor([1, 2]))
    assert found.rank.tolist() == [math.inf, math.inf]
    assert found.items.tolist() == [[-1, -1, -1]] * 2


def test_blocks_fit_memory_and_on_a_cpu_the_cache() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert block_width(1024, 1_000_000, 256, cpu) == CACHE_CELLS * torch.get_num_threads() // 1024
    assert block_width(1024, 1_000_000, 256, cuda) == 16384
    assert block_width(1024, 1_000_000, 8, cpu) == 512
    assert block_width(1024, 70, 256, cpu) == 80
    assert block_width(10**6, 10**6, 1, cuda) == TILE


@pytest.mark.gpu
@pytest.mark.parametrize("name", MODELS)
def test_a_gpu_finds_the_same(name: str, shop: Snapshot) -> None:
    users, ends = np.arange(USERS), shop.offsets[1:]
    now = np.full(USERS, shop.time.max() + 1)
    excluded = Excluded(*consumed_cells(shop, users, ends), np.full(USERS, ITEMS, np.int32))
    found = []
    for device in ("cpu", "cuda"):
        model: Recommender = untrained(name, shop).to(device)
        with torch.inference_mode():
            histories = histories_before(shop, users, ends, now, 2, 10, model.reads).to(torch.device(device))
            seen = PriorCounts(shop).history_items(users, ends).to(torch.device(device))
            found.append(scan(model.catalog().scores(histories, seen), excluded, K, TILE))
    torch.testing.assert_close(found[1].values.cpu(), found[0].values, rtol=1e-4, atol=1e-5)
