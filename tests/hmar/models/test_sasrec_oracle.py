"""SASRec against its equations (docstring of hmar.models.sasrec), in float64 loops over one user at a time."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.models.sasrec import SASRec
from tests.hmar.models.test_hmar_oracle import Array, attend, feed_forward
from tests.support.models import ask, build, in_double


def norm(x: Array, w: dict[str, Array], name: str) -> Array:
    scaled = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def oracle(model: SASRec, items: list[int]) -> Array:
    w = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    config = model.config
    visible = [list(range(t + 1)) for t in range(len(items))]
    x = math.sqrt(config.d) * w["items.weight"][items] + w["positions.table.weight"][: len(items)]
    for block in range(config.blocks):
        own = {k.removeprefix(f"blocks.{block}."): v for k, v in w.items()}
        weights = own["attention.qkv.weight"], own["attention.qkv.bias"], config.heads
        if config.norm == "pre":
            x = x + attend(norm(x, own, "attention_norm"), visible, *weights)
            x = x + feed_forward(norm(x, own, "feed_forward_norm"), own, "feed_forward.inner", "feed_forward.outer")
        else:
            x = norm(x + attend(x, visible, *weights), own, "attention_norm")
            x = norm(x + feed_forward(x, own, "feed_forward.inner", "feed_forward.outer"), own, "feed_forward_norm")
    return norm(x, w, "norm") if config.norm == "pre" else x


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
        rows = [
            row
            for row in range(shop.offsets[user], shop.offsets[user + 1])
            if model.reads is None or shop.behavior[row] == shop.target_behavior
        ][-10:]
        assert rows
        last = oracle(model, [int(shop.item[row]) for row in rows])[-1]
        np.testing.assert_allclose(scores[place], model.items.weight.detach().numpy() @ last, rtol=1e-9, atol=1e-9)
