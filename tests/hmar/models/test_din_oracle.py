"""DIN against its equations (docstring of hmar.models.din), in float64 loops over one user and one candidate."""

from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.layers.target_attention import TargetAttention
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
    d, hidden = 8, 5
    rng = np.random.default_rng(0)
    w1, w2, w3, w4 = rng.normal(size=(4, hidden, d))
    layer = TargetAttention(d, [hidden], "sum").double()
    with torch.no_grad():
        for linear, weight in ((layer.key, w1 + w3), (layer.query, w2 - w3), (layer.product, w4)):
            linear.weight.copy_(torch.from_numpy(weight))
        assert layer.key.bias is not None
        histories, _ = ask(build("din", {"d": d}, shop), shop, [3], max_length=7)
        keys, query = rng.normal(size=(len(histories.item), d)), rng.normal(size=d)
        found = layer.scores(layer.keys(torch.from_numpy(keys)), torch.from_numpy(query)[None, None], histories)
    whole, bias = np.concatenate([w1, w2, w3, w4], axis=1), layer.key.bias.detach().numpy()
    slope, outer = layer.slopes[0].weight.detach().numpy(), layer.outer.weight.detach().numpy()[0]
    for k, score in zip(keys, found[:, 0].tolist(), strict=True):
        z = whole @ np.concatenate([k, query, k - query, k * query]) + bias
        assert score == pytest.approx(outer @ np.where(z > 0, z, slope * z), rel=1e-12)
