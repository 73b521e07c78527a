"""What HMAR's published code does beyond the equations of the paper: each is a setting, and does what it says."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from hmar.data.snapshot import Snapshot
from hmar.models.hmar import HMAR
from tests.support.models import build, pack_rows

SMALL = {"d": 16, "positions": 30}
ROW = [(n % 7, n % 3, 10 * n) for n in range(12)]


def made(shop: Snapshot, **config: Any) -> HMAR:
    model = build("hmar", {**SMALL, **config}, shop)
    assert isinstance(model, HMAR)
    return model


def states(model: HMAR, length: int) -> Tensor:
    with torch.no_grad():
        return model.encode(pack_rows([ROW[:length]], behaviors=3))


@pytest.mark.parametrize(("counted_from", "moves"), [("oldest", False), ("newest", True)])
def test_positions_from_the_newest_event_move_the_states_before_a_new_one(
    shop: Snapshot, counted_from: str, moves: bool
) -> None:
    model = made(shop, positions_from=counted_from)
    before, after = states(model, 9), states(model, 10)
    assert torch.allclose(before, after[:9], atol=1e-6) is not moves


def test_positions_are_the_same_vectors_in_reverse(shop: Snapshot) -> None:
    histories = pack_rows([ROW[:4], ROW[:2]], behaviors=3)
    oldest, newest = made(shop).positions, made(shop, positions_from="newest").positions
    newest.load_state_dict(oldest.state_dict())
    with torch.no_grad():
        assert torch.equal(newest(histories), oldest(histories)[[3, 2, 1, 0, 5, 4]])


@pytest.mark.parametrize("config", [{"behavior_encoder": False}, {"sequence_encoder": False}])
def test_attention_weights_are_dropped_in_training_only(shop: Snapshot, config: dict[str, Any]) -> None:
    plain, dropping = made(shop, **config, dropout=0.0), made(shop, **config, dropout=0.0, attention_dropout=0.5)
    assert torch.equal(states(plain, 12), states(dropping, 12))
    plain.train()
    dropping.train()
    assert torch.equal(states(plain, 12), states(plain, 12))
    assert not torch.allclose(states(plain, 12), states(dropping, 12), atol=1e-3)
    assert not torch.allclose(states(dropping, 12), states(dropping, 12), atol=1e-3)


def test_last_norm_ends_a_block_in_a_layer_normalization(shop: Snapshot) -> None:
    plain, normed = made(shop), made(shop, last_norm=True)
    assert normed.load_state_dict(plain.state_dict(), strict=False).missing_keys == [
        "sequence_blocks.0.last_norm.weight",
        "sequence_blocks.0.last_norm.bias",
    ]
    x = states(plain, 12)
    expected = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(states(normed, 12), expected)


def test_first_weights(shop: Snapshot) -> None:
    """Glorot's bound is sqrt(6 / (rows + columns)) of each matrix; three of d x d stand in one tensor of attention."""
    d = 64
    model = made(shop, d=d, first_weights="published", last_norm=True)
    found = dict(model.named_parameters())
    square = math.sqrt(6 / (2 * d))
    for name, parameter in found.items():
        if name.endswith(("bias", "rho")):
            assert (parameter == 0).all(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        elif "blocks" in name:
            assert 0.99 * square < parameter.abs().max() <= square, name
        elif name.startswith(("items", "positions")):
            bound = math.sqrt(6 / sum(parameter.shape))
            assert 0.99 * bound < parameter.abs().max() <= bound, name
        else:
            assert parameter.std().item() == pytest.approx(0.01, rel=0.2), name
    assert {name.split(".")[0] for name in found} == {
        "items", "fuse", "counts", "positions", "behavior_blocks", "sequence_blocks", "head",
    }  # fmt: skip


def test_none_of_these_is_a_leak_and_all_are_off(shop: Snapshot) -> None:
    model = made(shop, attention_dropout=0.2, positions_from="newest", last_norm=True, first_weights="published")
    assert model.published is None
    usual = made(shop).config
    assert (usual.attention_dropout, usual.positions_from, usual.last_norm, usual.first_weights) == (
        0.0, "oldest", False, "house",
    )  # fmt: skip
    assert (usual.hbi, usual.candidate_hbi, usual.mirrored_context) == ("running", "running", False)
