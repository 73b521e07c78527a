"""hmar_plus against its equations (docstring of hmar.models.hmar_plus), in float64 loops over one user at a time."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.batches import TrainingData
from hmar.data.snapshot import Snapshot
from hmar.errors import SettingsError
from hmar.losses import loss_function, total_loss
from hmar.models import model_class
from hmar.models.hmar_plus import HMARPlus
from tests.hmar.losses.oracle import evidence
from tests.support.model_oracle import Array, Event, attend, feed_forward, linear, norm, weights
from tests.support.models import ask, build, in_double, stirred

L = 7
"""Shorter than many histories, so that evidence reaches further back than what is read."""
DAYS = (1, 3, 7, 30, 90, 180, 365)
MINUTES = (1, 10, 60, 360, *(1440 * days for days in DAYS))


def gelu(x: Array) -> Array:
    out: Array = np.vectorize(lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))))(x)
    return out


def silu(x: Array) -> Array:
    out: Array = x / (1 + np.exp(-x))
    return out


def age(microseconds: int) -> int:
    return sum(60e6 * edge <= microseconds for edge in MINUTES)


def states(model: HMARPlus, w: dict[str, Array], events: list[Event]) -> Array:
    """h_t of the events that are read."""
    config = model.config
    x = np.stack([math.sqrt(config.d) * w["items.weight"][item] for item, _, _ in events])
    x = x + w["positions.table.weight"][: len(events)]
    if config.behavior:
        x = x + np.stack([w["behavior.weight"][code] for _, code, _ in events])
    if config.gaps:
        gaps = [12, *(age(b[2] - a[2]) for a, b in pairwise(events))]
        x = x + w["gap.weight"][gaps]
    everything = [list(range(t + 1)) for t in range(len(events))]
    if config.behavior_encoder:
        added = np.zeros_like(x)
        for code in range(3):
            own = {k.removeprefix("behavior_block."): v[code] for k, v in w.items() if k.startswith("behavior_block.")}
            visible = [[s for s in range(t + 1) if events[s][1] == code] for t in range(len(events))]
            rows = [t for t in range(len(events)) if events[t][1] == code]
            if not rows:
                continue
            a = attend(x, [seen or [0] for seen in visible], own["qkv.weight"], own["qkv.bias"], config.heads)
            z = a + feed_forward(own, "inner", "outer", a) + own["rho"] * x
            added[rows] = z[rows]
        x = x + added
    for block in range(config.blocks):
        own = {k.removeprefix(f"blocks.{block}."): v for k, v in w.items()}
        y = norm(own, "attention_norm", x)
        a = attend(y, everything, own["attention.qkv.weight"], own["attention.qkv.bias"], config.heads)
        if config.block == "gated":
            a = linear(own, "project", norm(own, "gate_norm", a) * silu(linear(own, "gate", y)))
        x = x + a
        x = x + linear(own, "outer", gelu(linear(own, "inner", norm(own, "feed_forward_norm", x))))
    return norm(w, "norm", x)


def scores(model: HMARPlus, events: list[Event], asked: int, now: int, popularity: Array, length: int = L) -> Array:
    """s_j of every item after the whole history ``events``, of which the last ``length`` are read."""
    config, w = model.config, weights(model)
    q = states(model, w, events[-length:])[-1]
    if config.asked:
        question = w["asking.asked.weight"][asked]
        if config.now:
            question = question + w["asking.since.weight"][age(now - events[-1][2])]
        q = q + linear(w, "asking.outer", gelu(linear(w, "asking.inner", np.concatenate([q, question]))))
    found: Array = w["items.weight"] @ q
    if config.bias:
        found = found + w["bias"] + w["popular"] * np.log1p(popularity)
    if config.evidence:
        g = linear(w, "evidence", q)
        for item in {item for item, _, _ in events}:
            places = [t for t, (other, _, _) in enumerate(events) if other == item]
            counts = [sum(events[t][1] == code for t in places) for code in range(3)]
            last = places[-1]
            phi = evidence(torch.tensor(counts), events[last][1], len(events) - last, now - events[last][2])
            found[item] += g @ phi.numpy()
    return found


@pytest.fixture
def spread(shop: Snapshot) -> Snapshot:
    """The shop with events minutes to months apart, so that every kind of age occurs."""
    rng = np.random.default_rng(3)
    time = np.array(shop.time)
    for start, stop in zip(shop.offsets[:-1], shop.offsets[1:], strict=True):
        time[start:stop] = np.cumsum(10 ** rng.uniform(7, 13, stop - start)).astype(np.int64)
    other = Snapshot(shop.path)
    object.__setattr__(other, "time", time)
    return other


CONFIGS: list[dict[str, Any]] = [
    {},
    {"block": "gated", "now": True, "blocks": 1},
    {"behavior_encoder": True, "heads": 1},
    {"evidence": False, "bias": False},
    {"asked": False, "gaps": False, "behavior": False},
]


@pytest.mark.parametrize("config", CONFIGS)
def test_scores(spread: Snapshot, config: dict[str, Any]) -> None:
    model = stirred(build("hmar_plus", {"d": 6, "positions": L, **config}, spread)).double()
    assert isinstance(model, HMARPlus)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    users, asked = [0, 3, 8, 11], [2, 0, 1, 2]
    histories, seen = (in_double(part) for part in ask(model, spread, users, max_length=L, asked=asked))
    now = torch.tensor([int(spread.time[spread.offsets[user + 1] - 1]) + 10 ** (7 + 2 * user // 3) for user in users])
    object.__setattr__(histories, "now", now)
    with torch.no_grad():
        got = model.score_all(histories, seen).numpy()
    popularity = model.popularity.numpy()
    assert popularity.any()
    for place, user in enumerate(users):
        rows = range(spread.offsets[user], spread.offsets[user + 1])
        events = [(int(spread.item[r]), int(spread.behavior[r]), int(spread.time[r])) for r in rows]
        expected = scores(model, events, asked[place], int(now[place]), popularity)
        np.testing.assert_allclose(got[place], expected, rtol=1e-9, atol=1e-9)


def test_the_loss_asks_for_every_events_own_behavior_and_weighs_by_it(spread: Snapshot) -> None:
    """Cross-entropy of each position's question, one at a time; auxiliary behaviors weigh 0.25."""
    model = stirred(build("hmar_plus", {"d": 6, "positions": 20, "auxiliary": 0.25}, spread)).double()
    assert isinstance(model, HMARPlus)
    data = TrainingData(spread, "leave_one_out", max_length=20, batch_size=100, negatives=0, recency=True)
    batch = in_double(next(data.batches(0)))
    with torch.no_grad():
        got = total_loss(model, loss_function("cross_entropy"), batch).item()
    total, positions = 0.0, 0
    for user in batch.user.tolist():
        rows = range(spread.offsets[user], spread.train_end("leave_one_out")[user])
        events = [(int(spread.item[r]), int(spread.behavior[r]), int(spread.time[r])) for r in rows]
        for t in range(1, len(events)):
            item, code, time = events[t]
            s = scores(model, events[:t], code, time, model.popularity.numpy(), length=20)
            weight = 1.0 if code == spread.target_behavior else 0.25
            total += weight * (np.log(np.exp(s - s.max()).sum()) + s.max() - s[item])
            positions += 1
    assert positions == len(batch.next_item)
    assert got == pytest.approx(total / positions, rel=1e-9)


def test_recent_is_a_special_case(spread: Snapshot) -> None:
    """Nothing but evidence that falls with how many events ago: the order of the rule, up to its buckets."""
    model = build("hmar_plus", {"d": 6, "positions": 20, "asked": False}, spread)
    assert isinstance(model, HMARPlus)
    assert model.evidence is not None
    with torch.no_grad():
        model.items.weight.zero_()
        model.popular.zero_()  # type: ignore[union-attr]
        model.evidence.bias[7:19] = torch.arange(24.0, 12.0, -1)
        users = list(range(spread.n_users))
        histories, seen = ask(model, spread, users, max_length=20)
        found = model.score_all(histories, seen)
        assert seen.events is not None
        expected = torch.zeros_like(found)
        expected[seen.row, seen.item] = 24 - seen.events.double().log2().floor().float()
    torch.testing.assert_close(found, expected)


def test_the_bias_starts_from_popularity(shop: Snapshot) -> None:
    model = build("hmar_plus", {"d": 6}, shop)
    vectors = model.item_vectors(torch.arange(shop.n_items), None)  # type: ignore[operator]
    torch.testing.assert_close(vectors[:, -1].detach(), 0.5 * model.popularity.log1p())


def test_settings_that_contradict_each_other_are_refused() -> None:
    kind = model_class("hmar_plus")
    with pytest.raises(SettingsError, match="now: the query has no place for it without asked"):
        kind.Config.parse({"asked": False, "now": True})
    with pytest.raises(SettingsError, match="consumed: left_out needs evidence"):
        kind.Config.parse({"evidence": False, "consumed": "left_out"})
    with pytest.raises(SettingsError, match="d must be a multiple of heads"):
        kind.Config.parse({"d": 9, "heads": 2})
