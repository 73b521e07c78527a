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
from tests.hmar.models.test_din_oracle import bucket, prelu
from tests.support.models import ask, build, in_double

Array = np.ndarray
Event = tuple[int, int, int]

HOUR = 3_600_000_000


def sigma(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def weights(model: DIEN) -> dict[str, Array]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def interests(model: DIEN, events: list[Event], now: int) -> list[Array]:
    """h_1 ... h_n after (item, behavior, microseconds) events."""
    w, config = weights(model), model.config
    (w_r, w_u, w_h), (u_r, u_u, u_h) = (np.split(w[f"extractor.weight_{kind}_l0"], 3) for kind in ("ih", "hh"))
    (b_r, b_u, b_h), (c_r, c_u, c_h) = (np.split(w[f"extractor.bias_{kind}_l0"], 3) for kind in ("ih", "hh"))
    h, states = np.zeros(config.d), []
    for item, behavior, time in events:
        i = w["items.weight"][item]
        if config.behavior:
            i = i + w["inputs.behavior.weight"][behavior]
        if config.time:
            i = i + w["inputs.time.weight"][bucket(now - time)]
        # torch's u keeps the old state, the paper's lets the new one in: u = 1 - u_torch.
        u = 1 - sigma(w_u @ i + b_u + u_u @ h + c_u)
        r = sigma(w_r @ i + b_r + u_r @ h + c_r)
        new = np.tanh(w_h @ i + b_h + r * (u_h @ h + c_h))
        h = (1 - u) * h + u * new
        states.append(h)
    return states


def logit(model: DIEN, events: list[Event], now: int, candidate: int) -> float:
    w, config = weights(model), model.config
    states = interests(model, events, now)
    q = w["items.weight"][candidate]
    odds = [np.exp(h @ w["attention.key.weight"].T @ q) for h in states]
    gates = 2 if config.evolution == "agru" else 3
    of_input, of_state, bias = (
        np.split(w[f"evolution.{name}"], gates) for name in ("inputs.weight", "states.weight", "inputs.bias")
    )
    s = np.zeros(config.d)
    for h, odd in zip(states, odds, strict=True):
        a = odd / sum(odds)
        i = a * h if config.evolution == "aigru" else h
        r = sigma(of_input[0] @ i + of_state[0] @ s + bias[0])
        new = np.tanh(of_input[1] @ i + r * (of_state[1] @ s) + bias[1])
        if config.evolution == "agru":
            update = a
        else:
            u = sigma(of_input[2] @ i + of_state[2] @ s + bias[2])
            update = {"augru": a * u, "aigru": u, "published": 1 - (1 - a) * (1 - u)}[config.evolution]
        s = (1 - update) * s + update * new
    x = np.concatenate([s, q, s * q])
    for layer in range(0, 2 * len(config.hidden), 2):
        x = prelu(w[f"net.{layer}.weight"] @ x + w[f"net.{layer}.bias"], w[f"net.{layer + 1}.weight"])
    return float(w[f"net.{2 * len(config.hidden)}.weight"][0] @ x + w["bias.weight"][candidate, 0])


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
    # Events of seconds, asked years later, would all be in one bucket.
    time = torch.cat([torch.arange(int(length)) ** 4 * HOUR for length in histories.lengths])
    histories = replace(in_double(histories), time=time, now=torch.full((12,), 9**4 * HOUR))
    with torch.no_grad():
        scores = model.score_all(histories, seen)
    for row in range(12):
        tokens = range(int(histories.offsets[row]), int(histories.offsets[row + 1]))
        events = [(int(histories.item[t]), int(histories.behavior[t]), int(histories.time[t])) for t in tokens]
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
    for row in range(len(histories)):
        tokens = range(int(histories.offsets[row]), int(histories.offsets[row + 1]))
        events = [(int(histories.item[t]), int(histories.behavior[t]), int(histories.time[t])) for t in tokens]
        states = interests(model, events, int(histories.now[row]))
        pairs = [
            -np.log(sigma(h @ table[events[place + 1][0]])) - np.log(1 - sigma(h @ table[others[tokens[place + 1]]]))
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
