"""What every registered ranker promises beside what every model does (test_contract.py): it learns from impressions."""

import copy
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hmar.data.impressions import ImpressionBatch, ImpressionData
from hmar.data.snapshot import Snapshot
from hmar.losses import RANKER_LOSSES, loss_function, total_loss
from hmar.models.ranker import Ranker
from hmar.train.parts import terms
from tests.support.arrays import random_users
from tests.support.contract import OF_FAMILY, RANKER_LOSS_DATA, params
from tests.support.models import ask, build, counts_of_rows, in_double, pack_rows

SPLIT = "leave_one_out"
L = 9

Case = tuple[str, dict[str, Any]]


@pytest.fixture(params=params(OF_FAMILY["ranker"]))
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


@pytest.fixture(params=list(RANKER_LOSSES))
def loss_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ranker(case: Case, snapshot: Snapshot) -> Ranker:
    model = build(*case, snapshot)
    assert isinstance(model, Ranker)
    return model


def whole_epoch(model: Ranker, snapshot: Snapshot, loss_name: str, **given: Any) -> ImpressionBatch:
    """All training moments in one batch."""
    data = ImpressionData(
        snapshot, SPLIT, max_length=L, batch_size=10_000, behaviors=model.reads, **RANKER_LOSS_DATA[loss_name], **given
    )
    (batch,) = data.batches(0)
    return batch


def test_every_loss_is_here() -> None:
    assert set(RANKER_LOSS_DATA) == set(RANKER_LOSSES)


def test_the_logits_are_the_scores(case: Case, shop: Snapshot) -> None:
    """Training sees what serving answers: whatever the size of a pass, and whether items are shared or each row's."""
    model = ranker(case, shop)
    histories, seen = ask(model, shop, range(shop.n_users), max_length=L)
    items = torch.arange(shop.n_items)
    with torch.no_grad():
        expected = model.score_all(histories, seen)
        shared = model.interact(model.encode(histories), histories, items[None])
        each = model.interact(model.encode(histories), histories, items.expand(len(histories), -1))
        one = torch.cat(
            [model.score(histories, seen, torch.full((len(histories), 1), n)) for n in range(shop.n_items)], dim=1
        )
        model.tokens_at_once, model.pairs_at_once = 4, 12  # type: ignore[misc]
        in_passes = model.score_all(histories, seen)
    filled = histories.lengths > 0
    for other in (shared, each, one, in_passes):
        torch.testing.assert_close(other[filled], expected[filled], rtol=1e-4, atol=1e-5)


def test_empty_histories_have_finite_logits(case: Case, shop: Snapshot) -> None:
    """They are never shown, but one that is NaN would spoil the others."""
    model = ranker(case, shop)
    items = torch.arange(shop.n_items)
    for rows in ([[], []], [[]], [[(1, 2, 0)], []]):
        histories = pack_rows(rows, behaviors=3, asked=2)
        for asked in (items[None], items.expand(len(rows), -1), items[None, :1].expand(len(rows), -1)):
            logits = model.interact(model.encode(histories), histories, asked)
            assert logits.shape == (len(rows), asked.shape[1])
            assert logits.isfinite().all()


def test_what_follows_a_moment_changes_nothing(case: Case, shop: Snapshot) -> None:
    """Rows have what precedes their own question; another row of the same user, asked later, is a batch mate."""
    model = ranker(case, shop)
    past = random_users(6, 14, 3, 8, seed=1, shortest=1)
    later = [[*row, *((i % 14, i % 3, 1000 + i) for i in range(5))] for row in past]
    with torch.no_grad():
        alone = model.score_all(pack_rows(past, behaviors=3, asked=2), counts_of_rows(past, behaviors=3))
        both = [row for pair in zip(past, later, strict=True) for row in pair]
        together = model.score_all(pack_rows(both, behaviors=3, asked=2), counts_of_rows(both, behaviors=3))
    torch.testing.assert_close(together[::2], alone, rtol=1e-4, atol=1e-5)


def test_training_moves_every_parameter(case: Case, loss_name: str, shop: Snapshot) -> None:
    model = ranker(case, shop)
    total_loss(model, loss_function(loss_name), whole_epoch(model, shop, loss_name)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def gradients(model: Ranker, loss_name: str, batch: ImpressionBatch) -> list[Tensor]:
    value = total_loss(model, loss_function(loss_name), batch)
    found = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
    return [value, *(torch.zeros(()) if gradient is None else gradient for gradient in found)]


def test_parts_of_a_batch_add_up(case: Case, loss_name: str, shop: Snapshot) -> None:
    """Weighted with their candidates: what passes over less memory, and several processes, rely on."""
    model = ranker(case, shop).double()
    batch = in_double(whole_epoch(model, shop, loss_name))
    whole = gradients(model, loss_name, batch)
    sums = [torch.zeros_like(each) for each in whole]
    for start, stop in ((0, 1), (1, 30), (30, len(batch.items))):
        some = batch.part(start, stop)
        for total, each in zip(sums, gradients(model, loss_name, some), strict=True):
            total += each * (terms(some) / terms(batch))
    for total, each in zip(sums, whole, strict=True):
        torch.testing.assert_close(total, each, rtol=1e-7, atol=1e-10)


def test_a_part_without_moments_teaches_nothing(case: Case, loss_name: str, shop: Snapshot) -> None:
    """A process may have none of a small batch."""
    model = ranker(case, shop)
    for each in gradients(model, loss_name, whole_epoch(model, shop, loss_name).part(3, 3)):
        assert not each.any()


def test_what_is_no_candidate_teaches_nothing(case: Case, loss_name: str, shop: Snapshot) -> None:
    model = ranker(case, shop).double()
    batch = in_double(whole_epoch(model, shop, loss_name))
    assert not batch.real.all()
    other = replace(batch, items=torch.where(batch.real, batch.items, 7), labels=batch.labels + (~batch.real).double())
    for a, b in zip(gradients(model, loss_name, batch), gradients(model, loss_name, other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_the_order_of_moments_and_of_candidates_changes_nothing(case: Case, loss_name: str, shop: Snapshot) -> None:
    model = ranker(case, shop).double()
    batch = in_double(whole_epoch(model, shop, loss_name))
    order = torch.randperm(len(batch.items), generator=torch.Generator().manual_seed(5)).tolist()
    columns = torch.randperm(batch.items.shape[1], generator=torch.Generator().manual_seed(6))
    rows = [batch.part(row, row + 1) for row in order]
    histories = type(batch.histories)(
        **{
            field.name: torch.cat([getattr(row.histories, field.name) for row in rows])
            for field in fields(batch.histories)
            if field.name != "offsets"
        },
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), batch.histories.lengths[order].cumsum(0)]),
    )
    matrices = {name: getattr(batch, name)[order][:, columns] for name in ("items", "labels", "real", "sampled")}
    other = ImpressionBatch(histories=histories, user=batch.user[order], **matrices)
    for a, b in zip(gradients(model, loss_name, batch), gradients(model, loss_name, other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10)


def test_training_lowers_the_loss(case: Case, loss_name: str, circle: Snapshot) -> None:
    model = ranker(case, circle).train()
    loss = loss_function(loss_name)
    data = ImpressionData(circle, SPLIT, max_length=L, batch_size=50, behaviors=model.reads)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    before = copy.deepcopy(model)
    course = []
    for epoch in range(15):
        for batch in data.batches(epoch):
            value = total_loss(model, loss, batch)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            course.append(value.item())
    assert sum(course[-10:]) < 0.9 * sum(course[:10])
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))
