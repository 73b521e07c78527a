"""SASRec against its equations (docstring of hmar.models.sasrec), in float64 loops over one user at a time."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.models.sasrec import SASRec
from tests.support.model_oracle import Array, attend, feed_forward, norm, weights
from tests.support.models import ask, build, in_double, rows_read


def oracle(model: SASRec, items: list[int]) -> Array:
    w = weights(model)
    config = model.config
    visible = [list(range(t + 1)) for t in range(len(items))]
    x = math.sqrt(config.d) * w["items.weight"][items] + w["positions.table.weight"][: len(items)]
    inner_outer = "feed_forward.inner", "feed_forward.outer"
    for block in range(config.blocks):
        own = {k.removeprefix(f"blocks.{block}."): v for k, v in w.items()}
        projections = own["attention.qkv.weight"], own["attention.qkv.bias"], config.heads
        if config.norm == "pre":
            x = x + attend(norm(own, "attention_norm", x), visible, *projections)
            x = x + feed_forward(own, *inner_outer, norm(own, "feed_forward_norm", x))
        else:
            x = norm(own, "attention_norm", x + attend(x, visible, *projections))
            x = norm(own, "feed_forward_norm", x + feed_forward(own, *inner_outer, x))
    return norm(w, "norm", x) if config.norm == "pre" else x


@pytest.mark.parametrize("config", [{"heads": 2}, {"norm": "post"}, {"behaviors": "target"}])
def test_states_and_scores(shop: Snapshot, config: dict[str, Any]) -> None:
    model = build("sasrec", {"d": 6, "positions": 10, **config}, shop).double()
    assert isinstance(model, SASRec)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    users = [0, 3, 8, 11]
    histories, seen = (in_double(part) for part in ask(model, shop, users, max_length=10))
    with torch.no_grad():
        scores = model.score_all(histories, seen).numpy()
    for place, user in enumerate(users):
        rows = rows_read(model, shop, user, 10)
        last = oracle(model, [int(shop.item[row]) for row in rows])[-1]
        np.testing.assert_allclose(scores[place], model.items.weight.detach().numpy() @ last, rtol=1e-9, atol=1e-9)
