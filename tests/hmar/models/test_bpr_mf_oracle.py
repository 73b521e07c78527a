"""BPR-MF against its equations (docstring of hmar.models.bpr_mf), in float64 loops over one user at a time."""

from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.batches import TrainingData
from hmar.data.snapshot import Snapshot
from hmar.losses import loss_function, total_loss
from hmar.models.bpr_mf import BPRMF
from tests.support.model_oracle import Array, weights
from tests.support.models import ask, build, in_double, rows_read

CONFIGS: list[dict[str, Any]] = [{}, {"bias": False}, {"behaviors": "target"}, {"regularization": 0.3}]


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest, shop: Snapshot) -> BPRMF:
    made = build("bpr_mf", {"d": 6, **request.param}, shop).double()
    assert isinstance(made, BPRMF)
    with torch.no_grad():
        if made.bias is not None:
            made.bias.normal_()
    return made.eval()


def factors(model: BPRMF) -> tuple[Array, Array, Array]:
    """Factors of users and items, biases."""
    w = weights(model)
    return w["users.weight"], w["items.weight"], w.get("bias", np.zeros(len(w["items.weight"])))


def test_scores_of_a_history(model: BPRMF, shop: Snapshot) -> None:
    _, items, bias = factors(model)
    users = [0, 3, 8, 11]
    histories, seen = (in_double(part) for part in ask(model, shop, users, max_length=10))
    with torch.no_grad():
        scores = model.score_all(histories, seen).numpy()
    center = items.mean(0)
    spread = np.cov(items.T, bias=True)
    for place, user in enumerate(users):
        rows = rows_read(model, shop, user, 10)
        delta = sum(items[shop.item[row]] for row in rows) / len(rows) - center
        squared = delta @ delta
        p = 2 * delta / (2 * delta @ spread @ delta / squared + squared + 8 * model.config.regularization)
        expected = [p @ items[j] + bias[j] for j in range(shop.n_items)]
        np.testing.assert_allclose(scores[place], expected, rtol=1e-9, atol=1e-9)


def test_the_fold_in_is_the_best_step_along_its_line(model: BPRMF, shop: Snapshot) -> None:
    """On the second-order model of BPR-Opt at p = 0, which is what the formula was derived from: there no shorter and
    no longer step along the gradient than the model's own query is better."""
    _, items, _ = factors(model)
    histories, _ = (in_double(part) for part in ask(model, shop, [3], max_length=7))
    rows = rows_read(model, shop, 3, 7)
    with torch.no_grad():
        p = model.last_queries(histories)[0, : items.shape[1]].numpy()
    had = items[shop.item[rows]]
    differences = (had[:, None] - items[None]).reshape(-1, items.shape[1])
    delta, spread = differences.mean(0), np.cov(items.T, bias=True)
    # -log sigma(x) = log 2 - x / 2 + x^2 / 8 + ...; the history's own scatter is taken to be the catalog's.
    second = 2 * spread + np.outer(delta, delta)

    def quadratic(p: Array) -> float:
        return float(np.log(2) - p @ delta / 2 + p @ second @ p / 8 + model.config.regularization * p @ p)

    for longer in (0.99, 1.01):
        assert quadratic(longer * p) > quadratic(p)


def test_training_is_on_the_factors_of_users(model: BPRMF, shop: Snapshot) -> None:
    """The loss of one batch: BPR-Opt of its triples with their regularizer."""
    users, items, bias = factors(model)
    data = TrainingData(shop, "leave_one_out", max_length=9, batch_size=100, negatives=2, behaviors=model.reads)
    (batch,) = data.batches(0)
    value = total_loss(model, loss_function("bpr"), in_double(batch)).item()
    terms = []
    for token in range(len(batch.next_item)):
        p = users[batch.user[batch.histories.row[token]]]
        i, drawn = int(batch.next_item[token]), batch.negatives[token].tolist()
        triples = [p @ (items[i] - items[j]) + bias[i] - bias[j] for j in drawn]
        squares = p @ p + items[i] @ items[i] + bias[i] ** 2
        squares += np.mean([items[j] @ items[j] + bias[j] ** 2 for j in drawn])
        terms.append(np.mean(np.log1p(np.exp(-np.array(triples)))) + model.config.regularization * squares)
    assert value == pytest.approx(np.mean(terms), rel=1e-10)


def test_what_a_history_folds_into_resembles_what_was_learned(shop: Snapshot) -> None:
    """A model that was trained ranks for a user's history much as for the factor that it learned for the user."""
    model = build("bpr_mf", {"d": 8}, shop).train()
    assert isinstance(model, BPRMF)
    data = TrainingData(shop, "leave_one_out", max_length=20, batch_size=100, negatives=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for epoch in range(60):
        for batch in data.batches(epoch):
            optimizer.zero_grad()
            total_loss(model, loss_function("bpr"), batch).backward()
            optimizer.step()
    ends = np.asarray(shop.train_end("leave_one_out"))
    users = [user for user in range(shop.n_users) if ends[user] - shop.offsets[user] > 4]
    histories, seen = ask(model.eval(), shop, users, ends=ends[users])
    with torch.no_grad():
        folded = model.score_all(histories, seen)
        learned = model.users(torch.tensor(users)) @ model.items.weight.T + model.bias
    together = [np.corrcoef(a, b)[0, 1] for a, b in zip(folded.numpy(), learned.numpy(), strict=True)]
    assert np.mean(together) > 0.8
