"""Caser against its equations (docstring of hmar.models.caser), in float64 loops over one position at a time."""

from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.models.caser import Caser
from tests.support.model_oracle import Array, Weights, relu, weights
from tests.support.models import ask, build, in_double, rows_read, stirred


def state(model: Caser, w: Weights, items: list[int]) -> Array:
    """After these items: z, and the mean of their vectors where it is an input."""
    config = model.config
    vectors = [w["items.weight"][item] for item in items]
    last = np.stack(([np.zeros(config.d)] * config.window + vectors)[-config.window :])
    features: list[Any] = []
    for height in range(1, config.window + 1):
        filters, biases = w[f"horizontal.{height - 1}.weight"], w[f"horizontal.{height - 1}.bias"]
        for f, b in zip(filters, biases, strict=True):  # f: d x height
            slid = [relu((f * last[i : i + height].T).sum() + b) for i in range(config.window - height + 1)]
            features.append(max(slid))
    down = w["vertical"] @ last  # n~ x d
    features += [down[k, column] for column in range(config.d) for k in range(config.vertical)]
    z = relu(w["outer.weight"] @ np.array(features) + w["outer.bias"])
    return np.concatenate([z, sum(vectors) / len(vectors)]) if config.general else z


@pytest.mark.parametrize(
    "config",
    [{}, {"window": 1}, {"window": 12, "general": False}, {"bias": False, "vertical": 1}, {"behaviors": "target"}],
)
def test_states_and_scores(shop: Snapshot, config: dict[str, Any]) -> None:
    model = stirred(build("caser", {"d": 5, "window": 3, "horizontal": 4, "vertical": 2, **config}, shop)).double()
    assert isinstance(model, Caser)
    w = weights(model)
    users = [0, 3, 8, 11]
    histories, seen = (in_double(part) for part in ask(model, shop, users, max_length=10))
    with torch.no_grad():
        encoded = model.encode(histories).numpy()
        scores = model.score_all(histories, seen).numpy()
    for place, user in enumerate(users):
        rows = rows_read(model, shop, user, 10)
        items = [int(shop.item[row]) for row in rows]
        for t in range(len(items)):
            expected = state(model, w, items[: t + 1])
            np.testing.assert_allclose(encoded[int(histories.offsets[place]) + t], expected, rtol=1e-9, atol=1e-9)
        last = state(model, w, items)
        expected = w["outputs.weight"] @ last + (w["bias"] if model.config.bias else 0)
        np.testing.assert_allclose(scores[place], expected, rtol=1e-9, atol=1e-9)


def test_nothing_before_the_window_but_the_mean_is_read(shop: Snapshot) -> None:
    model = build("caser", {"d": 5, "window": 3, "general": False}, shop)
    assert isinstance(model, Caser)
    histories, _ = ask(model, shop, range(20), max_length=12)
    shorter, _ = ask(model, shop, range(20), max_length=3)
    with torch.no_grad():
        torch.testing.assert_close(model.last_states(histories), model.last_states(shorter))
