"""DFAR against its equations (docstring of hmar.models.dfar), in float64 loops over one user and one candidate."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.impressions import ImpressionData
from hmar.data.snapshot import Snapshot
from hmar.losses import loss_function
from hmar.models.dfar import DFAR
from tests.support.model_oracle import (
    Array,
    Event,
    event_vectors,
    feed_forward,
    linear,
    net,
    norm,
    prelu,
    product,
    target_attention,
    weights,
)
from tests.support.models import ask, build, hours_apart, in_double, rows_of

CONFIGS: list[dict[str, Any]] = [
    {},
    {"mask": "product", "heads": 4},
    {"mask": "after", "attention": [5, 3], "hidden": [6]},
    {"mask": "none"},
    {"mask": "none", "pairs": "own"},
    {"lambda_d": 0.0, "behavior": False},
    {"lambda_bpr": 0.0, "time": False},
    {"lambda_bpr": 0.0, "lambda_d": 0.0},
    {"cosine": "maximized"},
]


def log_sigmoid(x: float) -> float:
    return float(-np.logaddexp(0, -x))


class Oracle:
    """One user at a time."""

    def __init__(self, model: DFAR) -> None:
        self.w = weights(model)
        self.config, self.said = model.config, model.said.tolist()

    def states(self, events: list[Event], now: int) -> tuple[list[Array], list[int]]:
        """S and y."""
        w, y = self.w, [int(self.said[behavior] >= 0) for _, behavior, _ in events]
        x = [
            x + w["positions.table.weight"][place] + w["labels.weight"][y[place]]
            for place, x in enumerate(event_vectors(w, self.config, events, now))
        ]
        return self.block("block", x, y, self.config.mask), y

    def block(self, name: str, x: list[Array], y: list[int], mask: str) -> list[Array]:
        w, d, heads = self.w, self.config.d, self.config.heads
        qkv = [linear(w, f"{name}.attention.qkv", norm(w, f"{name}.attention_norm", each)) for each in x]
        q, k, v = ([each[part * d : (part + 1) * d].reshape(heads, -1) for each in qkv] for part in range(3))
        out = []
        for t in range(len(x)):
            found = []
            for h1 in range(heads):
                for h2 in range(heads) if self.config.pairs == "all" else [h1]:
                    odds = []
                    for s in range(t + 1):
                        logit = float(q[t][h1] @ k[s][h2]) / np.sqrt(d)
                        dead = (h1 >= heads // 2) != (y[t] == 1) or (h2 >= heads // 2) != (y[s] == 1)
                        odds.append(
                            {
                                "none": (np.exp(logit), 1.0),
                                "product": (np.exp(0.0 if dead else logit), 1.0),
                                "after": (np.exp(logit), 0.0 if dead else 1.0),
                                "inside": (0.0 if dead else np.exp(logit), 1.0),
                            }[mask]
                        )
                    total = sum(odd for odd, _ in odds)
                    parts = [odd * kept / total * v[s][h2] for s, (odd, kept) in enumerate(odds) if total]
                    found.append(sum(parts, np.zeros(d // heads)))
            a = x[t] + linear(w, f"{name}.attention.out", np.concatenate(found))
            normed = norm(w, f"{name}.feed_forward_norm", a)
            out.append(a + feed_forward(w, f"{name}.feed_forward.inner", f"{name}.feed_forward.outer", normed))
        return out

    def side(self, label: int, states: list[Array], y: list[int], candidate: int) -> tuple[Array, Array, Array]:
        """s^P, f^P and E_j + Lab_1, or their negative counterparts."""
        w, name = self.w, "positive" if label else "negative"
        own = [state for state, said in zip(states, y, strict=True) if said == label]
        own = self.block(f"{name}.block", own, [0] * len(own), "none")
        asked = w["items.weight"][candidate] + w["labels.weight"][label]
        found = target_attention(w, f"{name}.attention", len(self.config.attention), asked, own)
        return sum(own, np.zeros(self.config.d)) / len(y), found, asked

    def logit(self, label: int, states: list[Array], y: list[int], candidate: int) -> float:
        w, name = self.w, "positive" if label else "negative"
        mean, found, asked = self.side(label, states, y, candidate)
        x = linear(w, f"{name}.means", np.concatenate([np.mean(states, axis=0), mean]))
        x = x + product(w, f"{name}.found", found) + product(w, f"{name}.asked", asked)
        return net(w, f"{name}.net.1", len(self.config.hidden) - 1, prelu(x, w[f"{name}.net.0.weight"]))

    def loss(self, events: list[Event], now: int, candidate: int, label: float) -> float:
        """Of one candidate."""
        states, y = self.states(events, now)
        positive = self.logit(1, states, y, candidate)
        total = -label * log_sigmoid(positive) - (1 - label) * log_sigmoid(-positive)
        if self.config.lambda_bpr:
            gap = positive - self.logit(0, states, y, candidate)
            total -= self.config.lambda_bpr * log_sigmoid(gap if label else -gap)
        if self.config.lambda_d:
            f_p, f_n = (self.side(one, states, y, candidate)[1] for one in (1, 0))
            if f_p.any() and f_n.any():
                cosine = float(f_p @ f_n / np.linalg.norm(f_p) / np.linalg.norm(f_n))
                total += self.config.lambda_d * (cosine if self.config.cosine == "minimized" else -cosine)
        return total


def made(config: dict[str, Any], snapshot: Snapshot) -> DFAR:
    model = build("dfar", {"d": 8, "attention": [6], "hidden": [7, 5], "lambda_d": 0.3, "lambda_bpr": 0.4,
                           "std": 0.5, **config}, snapshot).double()  # fmt: skip
    assert isinstance(model, DFAR)
    return model


@pytest.mark.parametrize("config", CONFIGS)
def test_logits(config: dict[str, Any], shop: Snapshot) -> None:
    model = made(config, shop)
    histories, seen = ask(model, shop, range(8), max_length=7)
    histories = hours_apart(histories)
    with torch.no_grad():
        scores = model.score_all(histories, seen)
    oracle = Oracle(model)
    for row, events in enumerate(rows_of(histories)):
        states, y = oracle.states(events, int(histories.now[row]))
        expected = [oracle.logit(1, states, y, j) for j in range(shop.n_items)]
        np.testing.assert_allclose(scores[row].numpy(), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("config", CONFIGS)
def test_training_loss(config: dict[str, Any], shop: Snapshot) -> None:
    """Log loss, dual BPR and L_D, in the mean over real candidates."""
    model = made(config, shop)
    data = ImpressionData(shop, "leave_one_out", max_length=6, batch_size=9, in_batch=1)
    batch = in_double(next(data.batches(0)))
    oracle, histories = Oracle(model), batch.histories
    losses = []
    for row, events in enumerate(rows_of(histories)):
        for column in batch.real[row].nonzero()[:, 0].tolist():
            candidate, label = int(batch.items[row, column]), float(batch.labels[row, column])
            losses.append(oracle.loss(events, int(histories.now[row]), candidate, label))
    with torch.no_grad():
        got = model.training_loss(batch, loss_function("log_loss"))
    np.testing.assert_allclose(got.item(), np.mean(losses), rtol=1e-9)
    assert {int(said) for row in range(len(histories)) for said in model.liked(histories)} == {0, 1}


@pytest.mark.parametrize("config", CONFIGS[:5])
@pytest.mark.parametrize("place", [0, 2, 5])
def test_a_changed_event_moves_no_state_before_it(config: dict[str, Any], place: int, shop: Snapshot) -> None:
    """Its item, or its label with its behavior."""
    model = made(config, shop)
    histories, _ = ask(model, shop, [int(np.argmax(np.diff(shop.offsets)))], max_length=7)
    histories = in_double(histories)
    assert len(histories.item) == 7
    with torch.no_grad():
        before = model.states(histories)
        for name in ("item", "behavior"):
            values = getattr(histories, name).clone()
            values[place] = (values[place] + (1 if name == "item" else 2 - 2 * int(values[place]) or 1)) % 14
            after = model.states(replace(histories, **{name: values}))
            moved = (after - before).abs().amax(1) > 1e-12
            assert not moved[:place].any()
            assert moved[place]


def test_plain_heads_have_no_mask(shop: Snapshot) -> None:
    from hmar.errors import SettingsError

    for config, told in (
        ({"pairs": "own"}, "with pairs own there are none; set none"),
        ({"heads": 1}, "set heads to an even number"),
        ({"heads": 3}, "d must be a multiple of heads"),
        ({"hidden": []}, "one layer at least"),
    ):
        with pytest.raises(SettingsError, match=told):
            made(config, shop)
