"""CNN, Bi-LSTM and Bi-LSTM with attention against their equations (docstrings of their modules), in float64 loops over
one user and one candidate."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.models.ranker import Ranker
from tests.support.models import ask, build, in_double, stirred

Array = np.ndarray
Weights = dict[str, Array]
Event = tuple[int, int, int]
"""(item, behavior, microseconds before the moment)."""


def sigma(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def inputs(w: Weights, config: Any, events: list[Event]) -> list[Array]:
    made = []
    for item, behavior, waited in events:
        x = w["items.weight"][item]
        if config.behavior:
            x = x + w["inputs.behavior.weight"][behavior]
        if config.time:
            days = waited / 86_400_000_000
            x = x + w["inputs.time.weight"][sum(days + 1 >= 2**power for power in range(1, 13))]
        made.append(x)
    return made


def linear(w: Weights, name: str, x: Array) -> Array:
    out: Array = w[f"{name}.weight"] @ x + w.get(f"{name}.bias", 0.0)
    return out


def head(w: Weights, config: Any, u: Array, candidate: int) -> float:
    e, bias = w["items.weight"][candidate], w["head.bias.weight"][candidate, 0]
    if config.head == "dot":
        return float(u @ e + bias)
    x = np.concatenate([u, e, u * e])
    for number in range(0, 2 * len(config.hidden), 2):
        x = linear(w, f"head.net.{number}", x)
        x = np.where(x >= 0, x, w[f"head.net.{number + 1}.weight"] * x)
    return float(w[f"head.net.{2 * len(config.hidden)}.weight"][0] @ x + bias)


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


def cnn(w: Weights, config: Any, events: list[Event], candidate: int) -> float:
    xs = inputs(w, config, events)
    pooled = []
    for window in range(1, config.windows + 1):
        filters, biases = w[f"filters.{window - 1}.weight"], w[f"filters.{window - 1}.bias"]
        before = [np.zeros(config.d)] * (window - 1) + xs
        for f, b in zip(filters, biases, strict=True):  # f: d x window
            pooled.append(max(relu((f * np.stack(before[t : t + window]).T).sum() + b) for t in range(len(xs))))
    return head(w, config, linear(w, "user", np.array(pooled)), candidate)


def bi_lstm(w: Weights, config: Any, events: list[Event], candidate: int) -> float:
    xs = inputs(w, config, events)
    forward, backward = lstm(w, xs), lstm(w, xs[::-1], "_reverse")
    return head(w, config, linear(w, "user", np.concatenate([forward[-1], backward[-1]])), candidate)


def bi_lstm_attention(w: Weights, config: Any, events: list[Event], candidate: int) -> float:
    xs = inputs(w, config, events)
    both = zip(lstm(w, xs), lstm(w, xs[::-1], "_reverse")[::-1], strict=True)
    ys = [linear(w, "events", np.concatenate(pair)) for pair in both]
    width = config.d // config.spaces
    h = relu(linear(w, "query", w["items.weight"][candidate]))
    u = []
    for k in range(config.spaces):
        part = slice(k * width, (k + 1) * width)
        keys = [relu(linear(w, "attention.key", y))[part] for y in ys]
        values = [linear(w, "attention.value", y)[part] for y in ys]
        if config.score == "dot":
            scores = np.array([h[part] @ key / np.sqrt(width) for key in keys])
        else:
            scores = np.array([key @ w["attention.compare.weight"][k] @ h[part] for key in keys])
        odds = np.exp(scores - scores.max())
        u.append(sum(odd * value for odd, value in zip(odds / odds.sum(), values, strict=True)))
    return head(w, config, np.concatenate(u), candidate)


ORACLES: dict[str, Callable[[Weights, Any, list[Event], int], float]] = {
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
    w = {key: tensor.numpy() for key, tensor in model.state_dict().items()}
    histories, seen = ask(model, shop, range(8), max_length=7)
    # Events of seconds, asked years later, would all be in one bucket.
    hour = 3_600_000_000
    time = torch.cat([torch.arange(int(length)) ** 4 * hour for length in histories.lengths])
    histories = replace(in_double(histories), time=time, now=torch.full((8,), 9**4 * hour))
    with torch.no_grad():
        scores = model.score_all(histories, seen)
    for row in range(8):
        tokens = range(int(histories.offsets[row]), int(histories.offsets[row + 1]))
        waited = [int(histories.now[row] - histories.time[t]) for t in tokens]
        events = [(int(histories.item[t]), int(histories.behavior[t]), w) for t, w in zip(tokens, waited, strict=True)]
        expected = [ORACLES[name](w, model.config, events, j) for j in range(shop.n_items)]
        np.testing.assert_allclose(scores[row].numpy(), expected, rtol=1e-9, atol=1e-10)
