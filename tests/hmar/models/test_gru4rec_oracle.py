"""GRU4Rec against its equations (docstring of hmar.models.gru4rec), in float64 loops over one user at a time."""

from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.models.gru4rec import GRU4Rec
from tests.support.model_oracle import gru, weights
from tests.support.models import ask, build, in_double, rows_read, stirred


@pytest.mark.parametrize(
    "config", [{}, {"layers": 2, "constrained": False}, {"bias": False}, {"behaviors": "target", "constrained": False}]
)
def test_states_and_scores(shop: Snapshot, config: dict[str, Any]) -> None:
    model = stirred(build("gru4rec", {"d": 6, **config}, shop)).double()
    assert isinstance(model, GRU4Rec)
    w = weights(model)
    users = [0, 3, 8, 11]
    histories, seen = (in_double(part) for part in ask(model, shop, users, max_length=10))
    with torch.no_grad():
        encoded = model.encode(histories).numpy()
        scores = model.score_all(histories, seen).numpy()
    for place, user in enumerate(users):
        rows = rows_read(model, shop, user, 10)
        states = [w["items.weight"][shop.item[row]] for row in rows]
        for layer in range(model.config.layers):
            states = gru(w, f"layers.{layer}", states)
        first = int(histories.offsets[place])
        np.testing.assert_allclose(encoded[first : first + len(rows)], states, rtol=1e-9, atol=1e-9)
        table = w["items.weight"] if model.config.constrained else w["outputs.weight"]
        expected = [table[j] @ states[-1] + (w["bias"][j] if model.config.bias else 0) for j in range(shop.n_items)]
        np.testing.assert_allclose(scores[place], expected, rtol=1e-9, atol=1e-9)
