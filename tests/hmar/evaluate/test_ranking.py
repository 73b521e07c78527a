"""Ranks among chosen candidates, refusals, and how many rows are scored at once."""

import pytest
import torch

from hmar.errors import ModelError
from hmar.evaluate.ranking import ranks_among, refuse_nan, rows_per_chunk
from hmar.models.base import CandidateCounts, Rule, Vocabulary
from hmar.models.catalog import ScoredCatalog, VectorCatalog, checked
from hmar.settings import Section


class _Any(Rule):
    def __init__(self, items: int) -> None:
        super().__init__(Section(), Vocabulary(items, ("buy",), 0, True, (False,)))

    def score(self, histories, seen: CandidateCounts, items):
        raise NotImplementedError

    def score_all(self, histories, seen: CandidateCounts):
        raise NotImplementedError


def test_equal_scores_count_against_the_target() -> None:
    scores = torch.tensor([[1.0, 2.0, 2.0, 0.0], [5.0, 1.0, 1.0, 1.0]])
    assert ranks_among(scores, torch.tensor([2.0, 1.0])).tolist() == [2.0, 4.0]


def test_what_cannot_be_recommended_is_a_miss_and_not_last() -> None:
    scores = torch.full((1, 3), -torch.inf)
    assert ranks_among(scores, torch.tensor([-torch.inf])).tolist() == [torch.inf]


def test_scores_of_a_wrong_shape_are_an_error() -> None:
    with pytest.raises(ModelError, match=r"_Any gave scores of shape \(3, 2\), expected \(2, 3\)"):
        checked(torch.zeros(3, 2), _Any(3), (2, 3))


def test_nan_names_the_model_and_whose_row_it_is() -> None:
    scores = torch.zeros(4, 3)
    scores[2, 1] = torch.nan
    refuse_nan(scores[:2], _Any(3), str)
    with pytest.raises(ModelError, match="_Any scores NaN for user 2 and 0 others of 4"):
        refuse_nan(scores, _Any(3), lambda row: f"user {row}")


def test_chunks_are_bounded_by_memory_where_the_catalog_is_scored_as_a_whole_and_by_rows_everywhere() -> None:
    whole = ScoredCatalog(_Any(3))
    assert rows_per_chunk(whole, 1_000_000, 256) == 67
    assert rows_per_chunk(whole, 10, 256) == 1024
    assert rows_per_chunk(whole, 10**9, 1) == 1
    assert rows_per_chunk(VectorCatalog.__new__(VectorCatalog), 10**9, 1) == 1024
