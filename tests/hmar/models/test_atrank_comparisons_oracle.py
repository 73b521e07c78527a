"""CNN, Bi-LSTM and Bi-LSTM with attention against their equations (docstrings of their modules), in float64 loops over
one user and one candidate."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.models.ranker import Ranker
from tests.support.model_oracle import (
    Array,
    Event,
    Weights,
    event_vectors,
    linear,
    net_of_pair,
    product,
    relu,
    sigma,
    weighted,
    weights,
)
from tests.support.models import ask, build, hours_apart, rows_of, stirred


def head(w: Weights, config: Any, u: Array, candidate: int) -> float:
    e, bias = w["items.weight"][candidate], w["head.bias.weight"][candidate, 0]
    if config.head == "dot":
        return float(u @ e + bias)
    return net_of_pair(w, "head.net", len(config.hidden), u, e) + float(bias)


def lstm(w: Weights, xs: list[Array], suffix: str = "") -> list[Array]:
    """One direction; torch stacks the weights of input gate, forget gate, cell and output gate."""
    w_x, w_h = w[f"lstm.weight_ih_l0{suffix}"], w[f"lstm.weight_hh_l0{suffix}"]
    b = w[f"lstm.bias_ih_l0{suffix}"] + w[f"lstm.bias_hh_l0{suffix}"]
    h = c = np.zeros(w_h.shape[1])
    states = []
    for x in xs:
        i, f, g, o = np.split(w_x @ x + w_h @ h + b, 4)
        c = sigma(f) * c + sigma(i) * np.tanh(g)
        h = sigma(o) * np.tanh(c)
        states.append(h)
    return states


def cnn(w: Weights, config: Any, events: list[Event], now: int, candidate: int) -> float:
    xs = event_vectors(w, config, events, now)
    pooled = []
    for window in range(1, config.windows + 1):
        filters, biases = w[f"filters.{window - 1}.weight"], w[f"filters.{window - 1}.bias"]
        before = [np.zeros(config.d)] * (window - 1) + xs
        for f, b in zip(filters, biases, strict=True):  # f: d x window
            pooled.append(max(relu((f * np.stack(before[t : t + window]).T).sum() + b) for t in range(len(xs))))
    return head(w, config, linear(w, "user", np.array(pooled)), candidate)


def bi_lstm(w: Weights, config: Any, events: list[Event], now: int, candidate: int) -> float:
    xs = event_vectors(w, config, events, now)
    forward, backward = lstm(w, xs), lstm(w, xs[::-1], "_reverse")
    return head(w, config, linear(w, "user", np.concatenate([forward[-1], backward[-1]])), candidate)


def bi_lstm_attention(w: Weights, config: Any, events: list[Event], now: int, candidate: int) -> float:
    xs = event_vectors(w, config, events, now)
    both = zip(lstm(w, xs), lstm(w, xs[::-1], "_reverse")[::-1], strict=True)
    ys = [linear(w, "events", np.concatenate(pair)) for pair in both]
    width = config.d // config.spaces
    h = relu(product(w, "query", w["items.weight"][candidate]))
    u = []
    for k in range(config.spaces):
        part = slice(k * width, (k + 1) * width)
        keys = [relu(linear(w, "attention.key", y))[part] for y in ys]
        values = [linear(w, "attention.value", y)[part] for y in ys]
        if config.score == "dot":
            scores = [float(h[part] @ key) / np.sqrt(width) for key in keys]
        else:
            scores = [float(key @ w["attention.compare.weight"][k] @ h[part]) for key in keys]
        u.append(weighted(scores, values))
    return head(w, config, np.concatenate(u), candidate)


ORACLES: dict[str, Callable[[Weights, Any, list[Event], int, int], float]] = {
    "cnn": cnn,
    "bi_lstm": bi_lstm,
    "bi_lstm_attention": bi_lstm_attention,
}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("cnn", {"windows": 3, "maps": 4}),
        ("cnn", {"windows": 10, "maps": 2, "head": "mlp", "hidden": [5, 3], "time": False}),
        ("bi_lstm", {}),
        ("bi_lstm", {"head": "mlp", "hidden": [5], "behavior": False}),
        ("bi_lstm_attention", {}),
        ("bi_lstm_attention", {"spaces": 2, "score": "dot", "time": False}),
        ("bi_lstm_attention", {"spaces": 3, "head": "mlp", "hidden": [5]}),
    ],
)
def test_logits(name: str, config: dict[str, Any], shop: Snapshot) -> None:
    model = stirred(build(name, {"d": 6, **config}, shop)).double()
    assert isinstance(model, Ranker)
    w = weights(model)
    histories, seen = ask(model, shop, range(8), max_length=7)
    histories = hours_apart(histories)
    with torch.no_grad():
        scores = model.score_all(histories, seen)
    for row, events in enumerate(rows_of(histories)):
        now = int(histories.now[row])
        expected = [ORACLES[name](w, model.config, events, now, j) for j in range(shop.n_items)]
        np.testing.assert_allclose(scores[row].numpy(), expected, rtol=1e-9, atol=1e-10)
