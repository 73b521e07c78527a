"""Masks, ranks and top lists on score matrices small enough to see through, and large enough to tile."""

import numpy as np
import pytest
import torch

from hmar.errors import ModelError
from hmar.evaluate.ranking import mask, own_scores, rank_in_place, refuse_nan, rows_per_chunk, top_k
from hmar.models.base import CandidateCounts, Rule, Vocabulary
from hmar.settings import Section


class _Any(Rule):
    def __init__(self, items: int) -> None:
        super().__init__(Section(), Vocabulary(items, ("buy",), 0, True, (False,)))

    def score(self, histories, seen: CandidateCounts, items):
        raise NotImplementedError

    def score_all(self, histories, seen: CandidateCounts):
        raise NotImplementedError


@pytest.mark.parametrize("width", [1, 5, 40, 128 * 41, 128 * 50 + 77])
@pytest.mark.parametrize("distinct", [True, False])
def test_top_k_is_the_head_of_a_full_sort(width: int, distinct: bool) -> None:
    rng = np.random.default_rng(width)
    scores = np.stack([rng.permutation(width) if distinct else rng.integers(0, 9, width) for _ in range(7)])
    scores = scores.astype(np.float32)
    scores[0, : width // 2] = -np.inf
    values, items = top_k(torch.from_numpy(scores.copy()), 20)
    expected = -np.sort(-scores, axis=1)[:, :20]
    assert values.shape == (7, min(20, width))
    np.testing.assert_array_equal(values.numpy(), expected)
    np.testing.assert_array_equal(np.take_along_axis(scores, items.numpy(), 1), expected)
    assert all(len(set(row)) == len(row) for row in items.tolist())


def test_top_k_of_a_view_of_columns() -> None:
    whole = torch.randn(3, 128 * 60)
    values, items = top_k(whole[:, : 128 * 50 + 3], 10)
    expected = whole[:, : 128 * 50 + 3].topk(10, dim=1)
    assert torch.equal(values, expected.values)
    assert torch.equal(items, expected.indices)


def test_equal_scores_count_against_the_target() -> None:
    scores = torch.tensor([[1.0, 2.0, 2.0, 0.0], [5.0, 1.0, 1.0, 1.0]])
    assert rank_in_place(scores, torch.tensor([2.0, 1.0])).tolist() == [2.0, 4.0]


def test_what_cannot_be_recommended_is_a_miss_and_not_last() -> None:
    scores = torch.full((1, 3), -torch.inf)
    assert rank_in_place(scores, torch.tensor([-torch.inf])).tolist() == [torch.inf]


def test_mask_takes_out_consumed_items_and_those_not_seen_yet() -> None:
    scores = torch.zeros(2, 5)
    view = mask(scores, np.array([0, 1]), np.array([1, 4]), np.array([2, 4], np.int32))
    assert view.tolist() == [[0.0, -torch.inf, -torch.inf, -torch.inf], [0.0, 0.0, 0.0, 0.0]]


def test_mask_keeps_a_column_where_nothing_had_been_seen() -> None:
    view = mask(torch.zeros(1, 3), np.zeros(0, np.int64), np.zeros(0, np.int64), np.array([0], np.int32))
    assert view.tolist() == [[-torch.inf]]


def test_scores_that_are_the_models_own_are_copied_before_they_are_overwritten() -> None:
    model = _Any(3)
    assert own_scores(model.popularity[None], model, (1, 3)).data_ptr() != model.popularity.data_ptr()
    expanded = own_scores(model.popularity.expand(2, -1), model, (2, 3))
    expanded.add_(1)
    assert model.popularity.tolist() == [0.0, 0.0, 0.0]
    fresh = torch.zeros(2, 3)
    assert own_scores(fresh, model, (2, 3)).data_ptr() == fresh.data_ptr()


def test_scores_of_a_wrong_shape_are_an_error() -> None:
    with pytest.raises(ModelError, match=r"_Any gave scores of shape \(3, 2\), expected \(2, 3\)"):
        own_scores(torch.zeros(3, 2), _Any(3), (2, 3))


def test_nan_names_the_model_and_whose_row_it_is() -> None:
    scores = torch.zeros(4, 3)
    scores[2, 1] = torch.nan
    refuse_nan(scores[:2], _Any(3), str)
    with pytest.raises(ModelError, match="_Any scores NaN for user 2 and 0 others of 4"):
        refuse_nan(scores, _Any(3), lambda row: f"user {row}")


def test_chunks_are_bounded_by_memory_and_by_rows() -> None:
    assert rows_per_chunk(1_000_000, 256) == 67
    assert rows_per_chunk(10, 256) == 1024
    assert rows_per_chunk(10**9, 1) == 1
