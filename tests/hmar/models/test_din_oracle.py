"""DIN against its equations (docstring of hmar.models.din), in float64 loops over one user and one candidate."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.models.din import DIN
from tests.support.models import ask, build, in_double

Array = np.ndarray


def prelu(x: Array, slope: Array) -> Array:
    return np.where(x >= 0, x, slope * x)


def bucket(waited: int) -> int:
    days = waited / 86_400_000_000
    return sum(days + 1 >= g for g in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096))


def oracle(model: DIN, events: list[tuple[int, int, int]], now: int, candidate: int) -> float:
    """The logit of one candidate after (item, behavior, microseconds) events."""
    w = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    config = model.config
    keys = []
    for item, behavior, time in events:
        k = w["items.weight"][item]
        if config.behavior:
            k = k + w["inputs.behavior.weight"][behavior]
        if config.time:
            k = k + w["inputs.time.weight"][bucket(now - time)]
        keys.append(k)
    q = w["items.weight"][candidate]
    first = np.concatenate(  # W of [k; q; k - q; k * q]: any W2 and W3 with these sums give the same
        [
            w["attention.key.weight"],
            w["attention.query.weight"],
            0 * w["attention.key.weight"],
            w["attention.product.weight"],
        ],
        axis=1,
    )
    scores = []
    for k in keys:
        x = prelu(
            first @ np.concatenate([k, q, k - q, k * q]) + w["attention.key.bias"], w["attention.slopes.0.weight"]
        )
        for layer in range(len(config.attention) - 1):
            x = w[f"attention.inner.{layer}.weight"] @ x + w[f"attention.inner.{layer}.bias"]
            x = prelu(x, w[f"attention.slopes.{layer + 1}.weight"])
        scores.append(float(w["attention.outer.weight"][0] @ x))
    if config.normalize == "softmax":
        odds = [np.exp(score / np.sqrt(config.d)) for score in scores]
        scores = [odd / sum(odds) for odd in odds]
    u = sum(weight * k for weight, k in zip(scores, keys, strict=True))
    x = np.concatenate([u, q, u * q])
    for layer in range(0, 2 * len(config.hidden), 2):
        x = prelu(w[f"net.{layer}.weight"] @ x + w[f"net.{layer}.bias"], w[f"net.{layer + 1}.weight"])
    return float(w[f"net.{2 * len(config.hidden)}.weight"][0] @ x + w["bias.weight"][candidate, 0])


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"attention": [7, 5], "hidden": [6]},
        {"attention": [30], "normalize": "sum"},
        {"behavior": False},
        {"time": False, "behavior": False},
    ],
)
def test_logits(config: dict[str, Any], shop: Snapshot) -> None:
    model = build("din", {"d": 8, **config}, shop).double()
    assert isinstance(model, DIN)
    with torch.no_grad():
        model.bias.weight.normal_()
    histories, seen = ask(model, shop, range(12), max_length=7)
    # Events of seconds, asked years later, would all be in one bucket.
    hour = 3_600_000_000
    time = torch.cat([torch.arange(int(length)) ** 4 * hour for length in histories.lengths])
    histories = replace(in_double(histories), time=time, now=torch.full((12,), 9**4 * hour))
    with torch.no_grad():
        scores = model.score_all(histories, seen)
    for row in range(12):
        tokens = range(int(histories.offsets[row]), int(histories.offsets[row + 1]))
        events = [(int(histories.item[t]), int(histories.behavior[t]), int(histories.time[t])) for t in tokens]
        expected = [oracle(model, events, int(histories.now[row]), j) for j in range(shop.n_items)]
        np.testing.assert_allclose(scores[row].numpy(), expected, rtol=1e-10, atol=1e-12)


def test_the_published_form_of_the_first_layer(shop: Snapshot) -> None:
    """W = [W1, W2, W3, W4] on [k; q; k - q; k * q] is the layer with W1 + W3, W2 - W3 and W4."""
    rng = np.random.default_rng(0)
    w1, w2, w3, w4 = rng.normal(size=(4, 5, 8))
    k, q = rng.normal(size=(2, 8))
    whole = np.concatenate([w1, w2, w3, w4], axis=1) @ np.concatenate([k, q, k - q, k * q])
    np.testing.assert_allclose(whole, (w1 + w3) @ k + (w2 - w3) @ q + w4 @ (k * q), rtol=1e-12)
