"""What every registered model promises, whatever it computes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor

from hmar.data.batches import TrainingData
from hmar.data.histories import Histories
from hmar.data.snapshot import Snapshot
from hmar.errors import SettingsError
from hmar.losses import LOSSES, loss_function, total_loss
from hmar.models import MODELS, model_class
from hmar.models.base import CandidateCounts, Encoder, Recommender, TrainingBatch
from tests.support.arrays import Event, random_users
from tests.support.contract import CASES, CONFIGS, LOSS_DATA, OF_FAMILY, params
from tests.support.models import ask, build, counts_of_rows, in_double, pack_rows, stirred

SPLIT = "leave_one_out"
L = 9
"""Shorter than many histories, so that counts reach further back than what is read."""

Case = tuple[str, dict[str, Any]]


@pytest.fixture(params=params(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


@pytest.fixture
def model(case: Case, shop: Snapshot) -> Recommender:
    return stirred(build(*case, shop))


@pytest.fixture(autouse=True)
def _no_gradients(request: pytest.FixtureRequest) -> Iterator[None]:
    with torch.set_grad_enabled("training" in request.node.name):
        yield


def close(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def every_item(rows: int, items: int) -> Tensor:
    return torch.arange(items).expand(rows, -1)


def select(histories: Histories, seen: CandidateCounts, rows: list[int]) -> tuple[Histories, CandidateCounts]:
    """The chosen rows in the given order."""
    tokens = [t for row in rows for t in range(int(histories.offsets[row]), int(histories.offsets[row + 1]))]
    cells = [(new, c) for new, row in enumerate(rows) for c in (seen.row == row).nonzero()[:, 0].tolist()]
    picked = torch.tensor([c for _, c in cells], dtype=torch.int64)
    chosen = Histories(
        item=histories.item[tokens],
        behavior=histories.behavior[tokens],
        time=histories.time[tokens],
        hbi=histories.hbi[tokens],
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), histories.lengths[rows].cumsum(0)]),
        asked=histories.asked[rows],
        now=histories.now[rows],
    )
    rows_of = torch.tensor([new for new, _ in cells], dtype=torch.int64)
    return chosen, replace(seen.at(picked), row=rows_of)


def reordered(batch: TrainingBatch, order: list[int]) -> TrainingBatch:
    """The same users in another order, each with its positions, their negatives and their counts."""
    offsets = batch.histories.offsets.tolist()
    tokens = torch.tensor([t for row in order for t in range(offsets[row], offsets[row + 1])])
    nothing = CandidateCounts(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3))
    histories, _ = select(batch.histories, nothing, order)
    assert batch.negative_log_q is not None
    shared = batch.negatives.ndim == 1
    runs = batch.count_runs
    if runs is not None:
        place = torch.empty_like(tokens)
        place[tokens] = torch.arange(len(tokens))
        runs = replace(runs, first=place[runs.first], stop=place[runs.first] + runs.stop - runs.first)
    return replace(
        batch,
        histories=histories,
        next_item=batch.next_item[tokens],
        next_behavior=batch.next_behavior[tokens],
        next_hbi=batch.next_hbi[tokens],
        negatives=batch.negatives if shared else batch.negatives[tokens],
        negative_hbi=batch.negative_hbi[tokens],
        user=batch.user[order],
        negative_log_q=batch.negative_log_q if shared else batch.negative_log_q[tokens],
        count_runs=runs,
        next_event=None if batch.next_event is None else batch.next_event[tokens],
        next_time=None if batch.next_time is None else batch.next_time[tokens],
        next_evidence=None if batch.next_evidence is None else batch.next_evidence.at(tokens),
        negative_evidence=None if batch.negative_evidence is None else batch.negative_evidence.at(tokens),
    )


def training_data(model: Encoder, loss_name: str, snapshot: Snapshot, batch_size: int) -> TrainingData:
    return TrainingData(
        snapshot,
        SPLIT,
        max_length=L,
        batch_size=batch_size,
        behaviors=model.reads,
        recency=model.uses_recency,
        **LOSS_DATA[loss_name],
    )


def test_every_model_is_here() -> None:
    assert {name for name, _, _ in CASES} == set(MODELS)
    assert set(CONFIGS) <= set(MODELS)


def test_score_all_is_score_of_every_item(model: Recommender, shop: Snapshot) -> None:
    for asked in (None, [row % 3 for row in range(shop.n_users)]):
        histories, seen = ask(model, shop, range(shop.n_users), max_length=L, asked=asked)
        scores = model.score_all(histories, seen)
        assert scores.shape == (shop.n_users, shop.n_items)
        assert scores.isfinite().all()
        close(model.score(histories, seen, every_item(shop.n_users, shop.n_items)), scores)


def test_candidate_order_changes_nothing(model: Recommender, shop: Snapshot) -> None:
    histories, seen = ask(model, shop, range(10), max_length=L)
    items = torch.randint(shop.n_items, (10, 25), generator=torch.Generator().manual_seed(0))
    order = torch.randperm(25, generator=torch.Generator().manual_seed(1))
    close(model.score(histories, seen, items[:, order]), model.score(histories, seen, items)[:, order])


def test_batch_mates_and_row_order_change_nothing(model: Recommender, shop: Snapshot) -> None:
    histories, seen = ask(model, shop, range(shop.n_users), max_length=L)
    together = model.score_all(histories, seen)
    rows = torch.randperm(shop.n_users, generator=torch.Generator().manual_seed(2)).tolist()[:11]
    close(model.score_all(*select(histories, seen, rows)), together[rows])
    for row in rows[:3]:
        close(model.score_all(*select(histories, seen, [row])), together[[row]])


def test_the_order_of_seen_cells_changes_nothing(model: Recommender, shop: Snapshot) -> None:
    histories, seen = ask(model, shop, range(10), max_length=L)
    order = torch.randperm(len(seen.row), generator=torch.Generator().manual_seed(3))
    shuffled = seen.at(order)
    close(model.score_all(histories, shuffled), model.score_all(histories, seen))
    items = every_item(10, shop.n_items)
    close(model.score(histories, shuffled, items), model.score(histories, seen, items))


def test_the_future_changes_nothing_before_it(model: Recommender) -> None:
    if not isinstance(model, Encoder):
        pytest.skip("has no states: it is given only what precedes the question")
    past = random_users(6, 14, 3, 8, seed=1, shortest=1)
    futures: list[list[list[Event]]] = [
        past,
        [[*row, *((i % 14, i % 3, 1000 + i) for i in range(9))] for row in past],
        [[*row, (3, 2, 5000)] for row in past],
    ]
    states = []
    for rows in futures:
        histories = pack_rows(rows, behaviors=3)
        encoded = model.encode(histories)
        states.append([encoded[int(o) : int(o) + len(row)] for o, row in zip(histories.offsets, past, strict=False)])
    for other in states[1:]:
        for before, after in zip(states[0], other, strict=True):
            close(after, before)


def test_an_empty_history_is_answered_with_popularity(model: Recommender, shop: Snapshot) -> None:
    rows: list[list[Event]] = [[], [(1, 2, 0), (2, 2, 1)], []]
    histories, seen = pack_rows(rows, behaviors=3, asked=2), counts_of_rows(rows, behaviors=3)
    scores = model.score_all(histories, seen)
    assert scores.isfinite().all()
    close(model.score(histories, seen, every_item(3, shop.n_items)), scores)
    counts = getattr(model, "counts", None) if type(model).__name__ == "Popularity" else model.popularity
    assert isinstance(counts, Tensor)
    more_popular = counts[:, None] > counts[None, :]
    for row in (0, 2):
        assert (scores[row][:, None] > scores[row][None, :])[more_popular].all()
    alone, nothing = pack_rows([[]], behaviors=3, asked=2), counts_of_rows([[]], behaviors=3)
    close(model.score_all(alone, nothing), scores[:1])


def test_no_rows_give_no_scores(model: Recommender, shop: Snapshot) -> None:
    histories, seen = pack_rows([], behaviors=3), counts_of_rows([], behaviors=3)
    assert model.score_all(histories, seen).shape == (0, shop.n_items)
    assert model.score(histories, seen, torch.zeros(0, 5, dtype=torch.int64)).shape == (0, 5)


def test_saved_and_loaded_it_scores_the_same(model: Recommender, case: Case, shop: Snapshot, tmp_path: Path) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    save_model(model, str(tmp_path / "weights.safetensors"))
    kind = model_class(case[0])
    config = kind.Config.parse(model.config.model_dump(mode="json"))
    torch.manual_seed(99)
    other = kind(config, model.vocabulary).eval()
    load_model(other, str(tmp_path / "weights.safetensors"), strict=True)
    histories, seen = ask(model, shop, range(shop.n_users), max_length=L)
    assert torch.equal(other.score_all(histories, seen), model.score_all(histories, seen))


def test_the_seed_decides_the_weights(case: Case, shop: Snapshot) -> None:
    one, same, other = (build(*case, shop, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    if model_class(case[0]).trainable:
        assert any(not torch.equal(one[name], other[name]) for name in one)


def test_an_unknown_config_key_names_the_nearest(case: Case) -> None:
    kind = model_class(case[0])
    key = max(kind.Config.model_fields, key=len)
    with pytest.raises(SettingsError, match=rf"config: {key}x: unknown setting; did you mean '{key}'\?"):
        kind.Config.parse({f"{key}x": 1}, "config")


def test_counts_enter_an_items_vector_as_the_model_says(model: Recommender) -> None:
    if not isinstance(model, Encoder) or not model.uses_hbi:
        pytest.skip("uses no counts")
    items = torch.arange(14)
    counts = torch.randint(5, (14, 3), generator=torch.Generator().manual_seed(4)).float()
    without = model.item_vectors(items, torch.zeros(1, 3))
    close(model.item_vectors(items, counts), without + counts @ model.count_vectors())


@pytest.fixture(params=params(OF_FAMILY["encoder"]))
def trained(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    return chosen


@pytest.fixture(params=list(LOSSES))
def loss_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_loss_is_here() -> None:
    assert set(LOSS_DATA) == set(LOSSES)


def test_training_moves_every_parameter(trained: Case, loss_name: str, shop: Snapshot) -> None:
    model = build(*trained, shop)
    assert isinstance(model, Encoder)
    data = training_data(model, loss_name, shop, 100)
    (batch,) = data.batches(0)
    total_loss(model, loss_function(loss_name), batch).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_training_does_not_depend_on_the_order_of_users(trained: Case, loss_name: str, shop: Snapshot) -> None:
    """A batch's loss and gradients are those of the same users in another order."""
    model = build(*trained, shop)
    assert isinstance(model, Encoder)
    model = model.double()
    data = training_data(model, loss_name, shop, 100)
    (batch,) = data.batches(0)
    order = torch.randperm(len(batch.user), generator=torch.Generator().manual_seed(5)).tolist()
    one, other = in_double(batch), in_double(reordered(batch, order))
    assert one.user.tolist() != other.user.tolist()
    loss = loss_function(loss_name)
    values = [total_loss(model, loss, each) for each in (one, other)]
    torch.testing.assert_close(values[1], values[0], rtol=1e-10, atol=0)
    gradients = [torch.autograd.grad(value, list(model.parameters())) for value in values]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-7, atol=1e-10)


def test_training_lowers_the_loss(trained: Case, loss_name: str, circle: Snapshot) -> None:
    model = build(*trained, circle).train()
    assert isinstance(model, Encoder)
    loss = loss_function(loss_name)
    data = training_data(model, loss_name, circle, 15)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    course = []
    for epoch in range(20):
        for batch in data.batches(epoch):
            value = total_loss(model, loss, batch)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            course.append(value.item())
    assert sum(course[-10:]) < 0.9 * sum(course[:10])
