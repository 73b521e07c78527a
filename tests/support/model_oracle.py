"""What the oracles of several models are made of: float64 numpy that follows the papers' equations, nothing of hmar's.

``w`` are a model's weights by name (:func:`weights`), ``name`` is where in it a layer's begin.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]
Weights = dict[str, Array]
Event = tuple[int, int, int]
"""(item, behavior, microseconds)."""


def weights(model: nn.Module) -> Weights:
    return {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def prelu(x: Array, slope: Array) -> Array:
    return np.where(x >= 0, x, slope * x)


def sigma(x: Array) -> Array:
    out: Array = 1 / (1 + np.exp(-x))
    return out


def softmax(scores: Sequence[float] | Array) -> Array:
    odds = np.exp(np.asarray(scores) - np.max(scores))
    out: Array = odds / odds.sum()
    return out


def weighted(scores: Sequence[float], vectors: Sequence[Array]) -> Array:
    """The mean of vectors by the softmax of their scores."""
    out: Array = np.sum([share * x for share, x in zip(softmax(scores), vectors, strict=True)], axis=0)
    return out


def linear(w: Weights, name: str, x: Array) -> Array:
    """Of a vector, or of rows."""
    out: Array = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
    return out


def product(w: Weights, name: str, x: Array) -> Array:
    """A linear layer that has no bias."""
    assert f"{name}.bias" not in w
    out: Array = x @ w[f"{name}.weight"].T
    return out


def norm(w: Weights, name: str, x: Array) -> Array:
    """LayerNorm of a vector, or of rows."""
    centered = x - x.mean(-1, keepdims=True)
    out: Array = centered / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]
    return out


def feed_forward(w: Weights, inner: str, outer: str, x: Array) -> Array:
    return linear(w, outer, relu(linear(w, inner, x)))


def attend(x: Array, visible: list[list[int]], weight: Array, bias: Array, heads: int) -> Array:
    """concat_h softmax(Q_h K_h^T / sqrt(d/H)) V_h; ``visible[t]`` are the events that t sees, itself included."""
    d = x.shape[1]
    q, k, v = ((x @ weight[i * d : (i + 1) * d].T + bias[i * d : (i + 1) * d]) for i in range(3))
    out = np.zeros_like(x)
    for t, sources in enumerate(visible):
        for h in range(heads):
            part = slice(h * d // heads, (h + 1) * d // heads)
            logits = [float(q[t, part] @ k[s, part]) / math.sqrt(d / heads) for s in sources]
            out[t, part] = weighted(logits, [v[s, part] for s in sources])
    return out


def gru(w: Weights, name: str, xs: list[Array]) -> list[Array]:
    """The states of one layer; torch stacks the weights of reset gate, update gate and candidate state, and its update
    gate keeps the old state, where the papers' lets the new one in."""
    w_x, w_h = w[f"{name}.weight_ih_l0"], w[f"{name}.weight_hh_l0"]
    b_x, b_h = w[f"{name}.bias_ih_l0"], w[f"{name}.bias_hh_l0"]
    h: Array = np.zeros(w_h.shape[1])
    states = []
    for x in xs:
        of_x, of_h = np.split(w_x @ x + b_x, 3), np.split(w_h @ h + b_h, 3)
        reset, update = sigma(of_x[0] + of_h[0]), 1 - sigma(of_x[1] + of_h[1])
        h = (1 - update) * h + update * np.tanh(of_x[2] + reset * of_h[2])
        states.append(h)
    return states


def bucket(waited: int) -> int:
    """ATRank's time bucket of an event so many microseconds ago."""
    days = waited / 86_400_000_000
    return sum(days + 1 >= g for g in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096))


def event_vectors(w: Weights, config: Any, events: Sequence[Event], now: int) -> list[Array]:
    """Of each event, its item's vector and, as far as ``config`` wants, those of its behavior and its time bucket."""
    vectors = []
    for item, behavior, time in events:
        x = w["items.weight"][item]
        if config.behavior:
            x = x + w["inputs.behavior.weight"][behavior]
        if config.time:
            x = x + w["inputs.time.weight"][bucket(now - time)]
        vectors.append(x)
    return vectors


def target_scores(w: Weights, name: str, layers: int, asked: Array, events: Sequence[Array]) -> list[float]:
    """DIN's a(k, q) of each event: a net of so many PReLU layers on what the first makes of k, q and k * q."""
    scores = []
    for k in events:
        x = linear(w, f"{name}.key", k) + product(w, f"{name}.query", asked) + product(w, f"{name}.product", k * asked)
        for layer in range(layers):
            if layer:
                x = linear(w, f"{name}.inner.{layer - 1}", x)
            x = prelu(x, w[f"{name}.slopes.{layer}.weight"])
        scores.append(float(product(w, f"{name}.outer", x)[0]))
    return scores


def target_attention(w: Weights, name: str, layers: int, asked: Array, events: Sequence[Array]) -> Array:
    """What a vector picks of events; zero where there are none."""
    if not events:
        return np.zeros_like(asked)
    scores = target_scores(w, name, layers, asked, events)
    return weighted([score / math.sqrt(len(asked)) for score in scores], events)


def net(w: Weights, name: str, layers: int, x: Array) -> float:
    """So many linear layers, PReLU after each, and a unit at the end."""
    for layer in range(0, 2 * layers, 2):
        x = prelu(linear(w, f"{name}.{layer}", x), w[f"{name}.{layer + 1}.weight"])
    return float(product(w, f"{name}.{2 * layers}", x)[0])


def net_of_pair(w: Weights, name: str, layers: int, u: Array, e: Array) -> float:
    """net [u; e; u * e]."""
    return net(w, name, layers, np.concatenate([u, e, u * e]))
