"""Losses against torch's own, and the registry."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from hmar.data.batches import TrainingData
from hmar.errors import SettingsError
from hmar.losses import LOSSES, loss_function, total_loss
from hmar.losses import cross_entropy as module
from hmar.models.base import Encoder, TrainingBatch
from tests.support.arrays import random_users, write_snapshot
from tests.support.models import build, in_double


@pytest.fixture
def case(tmp_path: Path) -> tuple[Encoder, TrainingBatch]:
    snapshot = write_snapshot(tmp_path / "s", random_users(9, 11, 3, 8, seed=3), items=11)
    model = build("sasrec", {"d": 6}, snapshot).double()
    assert isinstance(model, Encoder)
    (batch,) = TrainingData(snapshot, "leave_one_out", max_length=6, negatives=3).batches(0)
    return model, in_double(batch)


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("weighted", [False, True])
def test_fused_cross_entropy_equals_torch(
    case: tuple[Encoder, TrainingBatch], monkeypatch: pytest.MonkeyPatch, rows: int, weighted: bool
) -> None:
    model, batch = case
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    monkeypatch.setattr(module, "MIN_ROWS", rows)
    weights = torch.linspace(0, 2, len(batch.next_item), dtype=torch.float64) if weighted else None
    monkeypatch.setattr(model, "position_weights", lambda batch: weights)

    loss = loss_function("cross_entropy")(model, model.encode(batch.histories), batch)
    logits = model.encode(batch.histories) @ model.items.weight.T
    each = cross_entropy(logits, batch.next_item, reduction="none")
    expected = (each if weights is None else weights * each).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)

    got = torch.autograd.grad(3 * loss, list(model.parameters()))
    wanted = torch.autograd.grad(3 * expected, list(model.parameters()))
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_bce_equals_torch(case: tuple[Encoder, TrainingBatch], monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = case
    weights = torch.linspace(0, 2, len(batch.next_item), dtype=torch.float64)
    monkeypatch.setattr(model, "position_weights", lambda batch: weights)
    states = model.encode(batch.histories)
    loss = loss_function("bce")(model, states, batch)
    expected = torch.zeros((), dtype=torch.float64)
    for t in range(len(states)):
        one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        positive = states[t] @ model.items.weight[batch.next_item[t]]
        expected = expected + weights[t] * binary_cross_entropy_with_logits(positive, one)
        for item in batch.negatives[t]:
            expected = expected + binary_cross_entropy_with_logits(states[t] @ model.items.weight[item], zero)
    torch.testing.assert_close(loss, expected / len(states), rtol=1e-12, atol=0)


def test_extreme_logits_stay_finite(case: tuple[Encoder, TrainingBatch]) -> None:
    model, batch = case
    with torch.no_grad():
        model.items.weight.mul_(1e4)
    for name in LOSSES:
        loss = total_loss(model, loss_function(name), batch)
        assert loss.isfinite()
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss, list(model.parameters())))


def test_cross_entropy_refuses_vectors_that_depend_on_counts(tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path / "s", random_users(9, 11, 3, 8, seed=3), items=11)
    model = build("hmar", {"d": 6}, snapshot)
    assert isinstance(model, Encoder)
    (batch,) = TrainingData(snapshot, "leave_one_out", max_length=6).batches(0)
    with pytest.raises(SettingsError, match=r"loss: cross_entropy needs item vectors .* HMAR .* use bce"):
        total_loss(model, loss_function("cross_entropy"), batch)


def test_an_unknown_loss_is_named_with_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"unknown 'cross_entropie'; did you mean 'cross_entropy'\?"):
        loss_function("cross_entropie")
