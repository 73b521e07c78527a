"""DIN against its equations (docstring of hmar.models.din), in float64 loops over one user and one candidate."""

from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.models.din import DIN
from tests.support.model_oracle import Event, event_vectors, net_of_pair, softmax, target_scores, weights
from tests.support.models import ask, build, hours_apart, rows_of


def oracle(model: DIN, events: list[Event], now: int, candidate: int) -> float:
    """The logit of one candidate after (item, behavior, microseconds) events."""
    w = weights(model)
    config = model.config
    keys = event_vectors(w, config, events, now)
    q = w["items.weight"][candidate]
    # [W1, W2, 0, W4] [k; q; k - q; k * q], which every W is (the last test).
    scores = target_scores(w, "attention", len(config.attention), q, keys)
    if config.normalize == "softmax":
        scores = softmax([score / np.sqrt(config.d) for score in scores]).tolist()
    u = sum(weight * k for weight, k in zip(scores, keys, strict=True))
    return net_of_pair(w, "net", len(config.hidden), u, q) + float(w["bias.weight"][candidate, 0])


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
    histories = hours_apart(histories)
    with torch.no_grad():
        scores = model.score_all(histories, seen)
    for row, events in enumerate(rows_of(histories)):
        expected = [oracle(model, events, int(histories.now[row]), j) for j in range(shop.n_items)]
        np.testing.assert_allclose(scores[row].numpy(), expected, rtol=1e-10, atol=1e-12)


def test_the_published_form_of_the_first_layer(shop: Snapshot) -> None:
    """W = [W1, W2, W3, W4] on [k; q; k - q; k * q] is the layer with W1 + W3, W2 - W3 and W4."""
    rng = np.random.default_rng(0)
    w1, w2, w3, w4 = rng.normal(size=(4, 5, 8))
    k, q = rng.normal(size=(2, 8))
    whole = np.concatenate([w1, w2, w3, w4], axis=1) @ np.concatenate([k, q, k - q, k * q])
    np.testing.assert_allclose(whole, (w1 + w3) @ k + (w2 - w3) @ q + w4 @ (k * q), rtol=1e-12)
