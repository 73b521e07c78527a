"""GRU4Rec against its equations (docstring of hmar.models.gru4rec), in float64 loops over one user at a time."""

from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.models.gru4rec import GRU4Rec
from tests.support.models import ask, build, in_double, stirred

Array = np.ndarray


def sigma(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def gru(w: dict[str, Array], name: str, xs: list[Array]) -> list[Array]:
    """One layer; torch stacks the weights of reset gate, update gate and candidate state."""
    w_x, w_h = w[f"{name}.weight_ih_l0"], w[f"{name}.weight_hh_l0"]
    b_x, b_h = w[f"{name}.bias_ih_l0"], w[f"{name}.bias_hh_l0"]
    h = np.zeros(w_h.shape[1])
    states = []
    for x in xs:
        of_x, of_h = np.split(w_x @ x + b_x, 3), np.split(w_h @ h + b_h, 3)
        reset, update = sigma(of_x[0] + of_h[0]), sigma(of_x[1] + of_h[1])
        h = (1 - update) * np.tanh(of_x[2] + reset * of_h[2]) + update * h
        states.append(h)
    return states


@pytest.mark.parametrize(
    "config", [{}, {"layers": 2, "constrained": False}, {"bias": False}, {"behaviors": "target", "constrained": False}]
)
def test_states_and_scores(shop: Snapshot, config: dict[str, Any]) -> None:
    model = stirred(build("gru4rec", {"d": 6, **config}, shop)).double()
    assert isinstance(model, GRU4Rec)
    w = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    users = [0, 3, 8, 11]
    histories, seen = (in_double(part) for part in ask(model, shop, users, max_length=10))
    with torch.no_grad():
        encoded = model.encode(histories).numpy()
        scores = model.score_all(histories, seen).numpy()
    for place, user in enumerate(users):
        rows = [
            row
            for row in range(shop.offsets[user], shop.offsets[user + 1])
            if model.reads is None or shop.behavior[row] == shop.target_behavior
        ][-10:]
        assert rows
        states = [w["items.weight"][shop.item[row]] for row in rows]
        for layer in range(model.config.layers):
            states = gru(w, f"layers.{layer}", states)
        first = int(histories.offsets[place])
        np.testing.assert_allclose(encoded[first : first + len(rows)], states, rtol=1e-9, atol=1e-9)
        table = w["items.weight"] if model.config.constrained else w["outputs.weight"]
        expected = [table[j] @ states[-1] + (w["bias"][j] if model.config.bias else 0) for j in range(shop.n_items)]
        np.testing.assert_allclose(scores[place], expected, rtol=1e-9, atol=1e-9)
