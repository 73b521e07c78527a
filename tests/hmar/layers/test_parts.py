"""Dropout, permutation, positions."""

import pytest
import torch

from hmar.errors import SettingsError
from hmar.layers.dropout import Dropout
from hmar.layers.permute import permute
from hmar.layers.positions import LearnedPositions
from tests.support.models import pack_rows


@pytest.mark.parametrize("p", [0.1, 0.45, 0.9])
def test_dropout_keeps_share_and_mean(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(1001, 333, requires_grad=True)
    y = Dropout(p)(x)
    kept = y != 0
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=0.003)
    assert y[kept].unique().tolist() == pytest.approx([1 / (1 - p)], rel=1e-3)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.detach())


def test_dropout_draws_are_independent_of_place() -> None:
    torch.manual_seed(0)
    kept = Dropout(0.5)(torch.ones(4000, 8)) != 0
    correlation = torch.corrcoef(kept.T.float())
    assert correlation.fill_diagonal_(0).abs().max() < 0.06


def test_dropout_is_absent_in_evaluation_and_at_zero() -> None:
    x = torch.randn(3, 4)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_dropout_repeats_with_the_seed() -> None:
    x = torch.ones(100)
    torch.manual_seed(3)
    first = Dropout(0.5)(x)
    torch.manual_seed(3)
    assert torch.equal(first, Dropout(0.5)(x))
    assert not torch.equal(first, Dropout(0.5)(x))


def test_permute_and_its_gradient() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    order = torch.randperm(6)
    place = torch.argsort(order)
    assert torch.equal(permute(x, order, place), x[order])
    assert torch.equal(permute(permute(x, order, place), place, order), x)
    assert torch.autograd.gradcheck(lambda x: permute(x, order, place), (x,))


def test_positions_count_from_the_start_and_end_where_the_table_does() -> None:
    positions = LearnedPositions(3, 4)
    histories = pack_rows([[(0, 0, 0)], [(0, 0, t) for t in range(3)]], behaviors=1)
    assert torch.equal(positions(histories), positions.table(torch.tensor([0, 0, 1, 2])))
    with pytest.raises(
        SettingsError, match=r"a history of 4 events, but the model has 3 positions; set config\.positi"
    ):
        positions(pack_rows([[(0, 0, t) for t in range(4)]], behaviors=1))
