"""DIEN against its equations (docstring of hmar.models.dien), in float64 loops over one user and one candidate."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.impressions import ImpressionBatch, ImpressionData
from hmar.data.snapshot import Snapshot
from hmar.layers.next_item import other_items
from hmar.models.dien import DIEN
from tests.support.model_oracle import Array, Event, event_vectors, gru, net_of_pair, sigma, softmax, weights
from tests.support.models import ask, build, hours_apart, in_double, rows_of


def interests(model: DIEN, events: list[Event], now: int) -> list[Array]:
    """h_1 ... h_n after (item, behavior, microseconds) events."""
    w = weights(model)
    return gru(w, "extractor", event_vectors(w, model.config, events, now))


def logit(model: DIEN, events: list[Event], now: int, candidate: int) -> float:
    w, config = weights(model), model.config
    states = interests(model, events, now)
    q = w["items.weight"][candidate]
    shares = softmax([h @ w["attention.key.weight"].T @ q for h in states])
    gates = 2 if config.evolution == "agru" else 3
    of_input, of_state, bias = (
        np.split(w[f"evolution.{name}"], gates) for name in ("inputs.weight", "states.weight", "inputs.bias")
    )
    s = np.zeros(config.d)
    for h, a in zip(states, shares, strict=True):
        i = a * h if config.evolution == "aigru" else h
        r = sigma(of_input[0] @ i + of_state[0] @ s + bias[0])
        new = np.tanh(of_input[1] @ i + r * (of_state[1] @ s) + bias[1])
        if config.evolution == "agru":
            update = a
        else:
            u = sigma(of_input[2] @ i + of_state[2] @ s + bias[2])
            update = {"augru": a * u, "aigru": u, "published": 1 - (1 - a) * (1 - u)}[config.evolution]
        s = (1 - update) * s + update * new
    return net_of_pair(w, "net", len(config.hidden), s, q) + float(w["bias.weight"][candidate, 0])


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"evolution": "agru", "hidden": [6]},
        {"evolution": "aigru", "behavior": False},
        {"evolution": "published", "time": False},
    ],
)
def test_logits(config: dict[str, Any], shop: Snapshot) -> None:
    model = build("dien", {"d": 8, "hidden": [9, 5], **config}, shop).double()
    assert isinstance(model, DIEN)
    with torch.no_grad():
        model.bias.weight.normal_()
        model.items.weight.normal_()
        model.attention.key.weight.mul_(3)  # sharp attention
    histories, seen = ask(model, shop, range(12), max_length=7)
    histories = hours_apart(histories)
    with torch.no_grad():
        scores = model.score_all(histories, seen)
    for row, events in enumerate(rows_of(histories)):
        expected = [logit(model, events, int(histories.now[row]), j) for j in range(shop.n_items)]
        np.testing.assert_allclose(scores[row].numpy(), expected, rtol=1e-10, atol=1e-12)


def one_batch(snapshot: Snapshot) -> ImpressionBatch:
    (batch,) = ImpressionData(snapshot, "leave_one_out", max_length=9, batch_size=10_000).batches(0)
    return in_double(batch)


def test_the_auxiliary_loss(shop: Snapshot) -> None:
    """Every interest against the item of the next event and a drawn one, in the mean over candidates."""
    model = build("dien", {"d": 8, "hidden": [5], "auxiliary": 0.7}, shop).double()
    assert isinstance(model, DIEN)
    with torch.no_grad():
        model.items.weight.normal_()
    batch = one_batch(shop)
    histories, others = batch.histories, other_items(batch, shop.n_items).tolist()
    table = weights(model)["items.weight"]
    expected, candidates = 0.0, 0
    for row, events in enumerate(rows_of(histories)):
        first = int(histories.offsets[row])
        states = interests(model, events, int(histories.now[row]))
        pairs = [
            -np.log(sigma(h @ table[events[place + 1][0]])) - np.log(1 - sigma(h @ table[others[first + place + 1]]))
            for place, h in enumerate(states[:-1])
        ]
        expected += float(np.mean(pairs) if pairs else 0) * int(batch.real[row].sum())
        candidates += int(batch.real[row].sum())
    with torch.no_grad():
        found = model.auxiliary_loss(model.encode(histories), batch)
    assert found is not None
    np.testing.assert_allclose(float(found), 0.7 * expected / candidates, rtol=1e-9)


def test_drawn_items_are_the_others_in_equal_shares(shop: Snapshot) -> None:
    """And another one for the same event in another moment's history."""
    batch = one_batch(shop)
    items, events = batch.histories.item, len(batch.histories.item)
    counts = np.zeros(shop.n_items)
    for shift in range(40):
        later = replace(batch, histories=replace(batch.histories, now=batch.histories.now + shift))
        drawn = other_items(later, shop.n_items)
        assert not (drawn == items).any()
        counts += np.bincount(drawn.numpy(), minlength=shop.n_items)
    chances = 40 * (events - np.bincount(items.numpy(), minlength=shop.n_items)) / (shop.n_items - 1)
    # Chi square with 13 degrees of freedom: 34.5 at one in a thousand. The draws are the same in every run.
    assert ((counts - chances) ** 2 / chances).sum() < 34.5
    assert torch.equal(other_items(batch, shop.n_items), other_items(batch, shop.n_items))
