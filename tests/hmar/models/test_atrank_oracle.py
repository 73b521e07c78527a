"""ATRank against its equations (docstrings of hmar.models.atrank, hmar.layers.latent_spaces), in float64 loops over one
user and one candidate; and the effect that it is there for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.impressions import ImpressionData
from hmar.data.snapshot import Snapshot
from hmar.errors import SettingsError
from hmar.evaluate.impressions import judge_impressions
from hmar.losses import loss_function, total_loss
from hmar.models.atrank import ATRank
from hmar.models.ranker import Ranker
from tests.support.model_oracle import (
    Array,
    Event,
    bucket,
    feed_forward,
    linear,
    net_of_pair,
    norm,
    product,
    relu,
    weighted,
    weights,
)
from tests.support.models import ask, build, hours_apart, rows_of, stirred
from tests.support.planted import time_gaps

BEHAVIORS = ("view", "cart", "buy")


class Oracle:
    def __init__(self, model: ATRank) -> None:
        self.w = weights(model)
        self.config = model.config
        grouped = {name: place for place, group in enumerate(self.config.groups) for name in group}
        rest = [name for name in BEHAVIORS if name not in grouped]
        self.group = {name: grouped.get(name, len(self.config.groups) + sum(r in rest for r in BEHAVIORS[:code]))
                      for code, name in enumerate(BEHAVIORS)}  # fmt: skip
        if not self.config.behavior:
            self.group = dict.fromkeys(BEHAVIORS, 0)

    def parts(self, x: Array) -> Array:
        return x.reshape(self.config.spaces, -1)

    def compared(self, name: str, k: int, query: Array, key: Array, *, of_key: bool = False) -> float:
        """One product of a query and a key in space k."""
        if self.config.score == "dot":
            return float(query @ key / np.sqrt(len(query)))
        m = self.w[f"{name}.compare.weight"][k]
        return float(key @ m @ query if of_key else query @ m @ key)

    def event(self, item: int, behavior: int, waited: int) -> Array:
        w, g = self.w, self.group[BEHAVIORS[behavior]]
        blocks, features = [w["inputs.item"][g]], [w["items.weight"][item]]
        if self.config.behavior:
            blocks.append(w["inputs.behavior.weight"][g])
            features.append(w["inputs.behavior.vectors"][behavior])
        if self.config.time:
            blocks.append(w["inputs.time.weight"][g])
            features.append(w["inputs.time.vectors"][bucket(waited)])
        return np.concatenate(blocks, axis=1) @ np.concatenate(features) + w["inputs.bias"][g]

    def block(self, number: int, us: list[Array]) -> list[Array]:
        name, spaces = f"blocks.{number}", self.config.spaces
        projected = [relu(linear(self.w, f"{name}.projection", u)) for u in us]
        if self.config.score == "dot":
            queries, keys, values = zip(*([self.parts(x) for x in np.split(p, 3)] for p in projected), strict=True)
        else:
            queries = keys = [self.parts(s) for s in projected]
            values = [self.parts(relu(linear(self.w, f"{name}.values", s))) for s in projected]
        ys = []
        for t, u in enumerate(us):
            c = []
            for k in range(spaces):
                scores = [self.compared(name, k, queries[t][k], key[k]) for key in keys]
                c.append(weighted(scores, [v[k] for v in values]))
            x = norm(self.w, f"{name}.attention_norm", u + np.concatenate(c))
            ff = feed_forward(self.w, f"{name}.inner", f"{name}.outer", x)
            ys.append(norm(self.w, f"{name}.feed_forward_norm", x + ff))
        return ys

    def logit(self, events: list[Event], now: int, asked: int, candidate: int) -> float:
        """Of one candidate after (item, behavior, microseconds) events."""
        w = self.w
        ys = [self.event(item, behavior, now - time) for item, behavior, time in events]
        for number in range(self.config.blocks):
            ys = self.block(number, ys)
        e = w["items.weight"][candidate]
        h = self.parts(relu(product(w, "query", e) + w["task.weight"][asked]))
        keys = [self.parts(relu(linear(w, "attention.key", y))) for y in ys]
        values = [self.parts(linear(w, "attention.value", y)) for y in ys]
        u = []
        for k in range(self.config.spaces):
            scores = [self.compared("attention", k, h[k], key[k], of_key=True) for key in keys]
            u.append(weighted(scores, [v[k] for v in values]))
        user = np.concatenate(u)
        bias = w["head.bias.weight"][candidate * len(BEHAVIORS) + asked, 0]
        if self.config.head == "dot":
            return float(user @ e + bias)
        return net_of_pair(w, "head.net", len(self.config.hidden), user, e) + float(bias)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"score": "dot", "blocks": 2},
        {"spaces": 1, "head": "mlp", "hidden": [6, 5]},
        {"groups": [["buy", "view"]]},
        {"groups": [["cart"], ["buy"]], "time": False},
        {"behavior": False, "score": "dot"},
        {"behavior": False, "time": False},
    ],
)
def test_logits(config: dict[str, Any], shop: Snapshot) -> None:
    model = stirred(build("atrank", {"d": 12, "spaces": 3, **config}, shop)).double()
    assert isinstance(model, ATRank)
    histories, seen = ask(model, shop, range(12), max_length=7, asked=[row % 3 for row in range(12)])
    histories = hours_apart(histories)
    with torch.no_grad():
        scores = model.score_all(histories, seen)
    oracle = Oracle(model)
    for row, events in enumerate(rows_of(histories)):
        asked = int(histories.asked[row])
        expected = [oracle.logit(events, int(histories.now[row]), asked, j) for j in range(shop.n_items)]
        np.testing.assert_allclose(scores[row].numpy(), expected, rtol=1e-9, atol=1e-11)


def test_a_later_event_changes_what_earlier_ones_look_like(shop: Snapshot) -> None:
    """There is no causal mask: the history is whole when it is asked about."""
    model = build("atrank", {"d": 8, "spaces": 2}, shop)
    assert isinstance(model, ATRank)
    histories, _ = ask(model, shop, [0])
    changed = replace(histories, item=histories.item.clone())
    changed.item[-1] = (changed.item[-1] + 1) % shop.n_items
    with torch.no_grad():
        before, after = (model.blocks[0](model.events(each), each)[0] for each in (histories, changed))
    assert (before - after).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("key", "value"), [("groups", [["buy", "veiw"]]), ("behaviors", ["veiw"]), ("tasks", ["buy", "veiw"])]
)
def test_a_behavior_that_is_not_there_is_refused(key: str, value: Any, shop: Snapshot) -> None:
    with pytest.raises(SettingsError, match=f"config.{key}: unknown behavior 'veiw'.*'view'"):
        build("atrank", {key: value}, shop)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"d": 10, "spaces": 4}, "multiple of spaces"),
        ({"groups": [["buy"], ["buy"]]}, "stands twice"),
        ({"tasks": ["buy", "buy"]}, "stands twice"),
        ({"groups": [["buy"]], "behavior": False}, "leave groups out"),
        ({"hidden": []}, "one layer at least"),
    ],
)
def test_settings_that_do_not_fit_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        ATRank.Config.parse(config)


def learned(name: str, config: dict[str, Any], snapshot: Snapshot) -> float:
    """AUC on validation impressions after fourteen epochs."""
    model = build(name, config, snapshot)
    data = ImpressionData(snapshot, "leave_one_out", max_length=20, batch_size=50)
    if isinstance(model, Ranker):
        loss, optimizer = loss_function("log_loss"), torch.optim.Adam(model.parameters(), lr=0.01)
        model.train()
        for epoch in range(14):
            for batch in data.batches(epoch):
                optimizer.zero_grad()
                total_loss(model, loss, batch).backward()
                optimizer.step()
        model.eval()
    return judge_impressions(model, snapshot, "leave_one_out", "validation", max_length=20).mean("auc")


@pytest.mark.slow
def test_it_finds_how_long_ago_matters(tmp_path: Path) -> None:
    snapshot = time_gaps(tmp_path / "gaps")
    assert learned("atrank", {"d": 32}, snapshot) > 0.85
    assert learned("atrank", {"d": 32, "time": False}, snapshot) < 0.6
    assert learned("popularity", {}, snapshot) < 0.6
