"""FeedRec against its equations (docstring of hmar.models.feedrec), in float64 loops over one user and candidate."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.impressions import ImpressionBatch, ImpressionData
from hmar.data.snapshot import Snapshot
from hmar.losses import loss_function, total_loss
from hmar.models.feedrec import FeedRec
from tests.support.model_oracle import Array, Event, Weights, event_vectors, norm, weighted, weights
from tests.support.models import ask, build, hours_apart, in_double, pack_rows, rows_of, stirred


def layer(w: Weights, name: str, heads: int, kind: int, events: list[Array]) -> list[Array]:
    """The transformer of one type over that type's events."""
    width = len(events[0])
    each = width // heads
    after = []
    for x in events:
        seen = []
        for head in range(heads):
            q, k, v = (
                [
                    w[f"{name}.qkv.weight"][kind][rows] @ other + w[f"{name}.qkv.bias"][kind][rows]
                    for other in [x, *events]
                ]
                for rows in (slice(p * width + head * each, p * width + (head + 1) * each) for p in range(3))
            )
            seen.append(weighted([float(q[0] @ key) / np.sqrt(each) for key in k[1:]], v[1:]))
        y = norm(w, f"{name}.first_norm", x + np.concatenate(seen))
        inner = np.maximum(w[f"{name}.inner.weight"][kind] @ y + w[f"{name}.inner.bias"][kind], 0)
        outer = w[f"{name}.outer.weight"][kind] @ inner + w[f"{name}.outer.bias"][kind]
        after.append(norm(w, f"{name}.last_norm", y + outer))
    return after


def pooled(w: Weights, name: str, events: list[Array], p: Array | None = None) -> Array:
    asks = w[f"{name}.own"]
    if p is not None and f"{name}.weight.weight" in w:
        asks = asks + w[f"{name}.weight.weight"] @ p
    if not events:
        return np.zeros_like(asks)
    return weighted([float(asks @ x) / np.sqrt(len(asks)) for x in events], events)


def interests(model: FeedRec, said: list[int], events: list[Event], now: int) -> Array:
    """p, p', n and n', [4, D]."""
    w = weights(model)
    config = model.config
    h = event_vectors(w, config, events, now)
    if config.heterogeneous and h:
        h = layer(w, "layers.0", config.heads, 0, h)
    if config.homogeneous:
        for kind in {behavior for _, behavior, _ in events}:
            places = [place for place, event in enumerate(events) if event[1] == kind]
            name = f"layers.{int(config.heterogeneous)}"
            after = layer(w, name, config.heads, kind, [h[place] for place in places])
            for place, x in zip(places, after, strict=True):
                h[place] = x
    yes, no, weak = ([x for x, event in zip(h, events, strict=True) if said[event[1]] == kind] for kind in (1, -1, 0))
    p, n = pooled(w, "liked_events", yes), pooled(w, "disliked_events", no)
    return np.stack([p, pooled(w, "weak_liked_events", weak, p), n, pooled(w, "weak_disliked_events", weak, n)])


def oracle(model: FeedRec, said: list[int], events: list[Event], now: int, candidate: int) -> float:
    u = (interests(model, said, events, now) * model.mixed.detach().numpy()).sum(0)
    item, bias = (table.weight.detach().numpy()[candidate] for table in (model.items, model.bias))
    return float(u @ item + bias[0])


CONFIGS: list[dict[str, Any]] = [
    {},
    {"heads": 4, "strong_to_weak": False},
    {"heterogeneous": False, "behavior": False},
    {"homogeneous": False, "time": False},
]


@pytest.mark.parametrize("config", CONFIGS)
def test_logits(config: dict[str, Any], shop: Snapshot) -> None:
    model = stirred(build("feedrec", {"d": 8, **config}, shop)).double()
    assert isinstance(model, FeedRec)
    histories, seen = ask(model, shop, range(12), max_length=7)
    histories = hours_apart(histories)
    with torch.no_grad():
        scores = model.score_all(histories, seen)
    for row, events in enumerate(rows_of(histories)):
        expected = [
            oracle(model, shop.feedback.tolist(), events, int(histories.now[row]), j) for j in range(shop.n_items)
        ]
        np.testing.assert_allclose(scores[row].numpy(), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("behavior", [0, 1, 2])
def test_types_may_be_missing(behavior: int, shop: Snapshot) -> None:
    """Histories in which all events are of one type, beside ones in which they are not; and a loss that is a number."""
    model = stirred(build("feedrec", {"d": 8}, shop)).double()
    assert isinstance(model, FeedRec)
    rows = [[(3, behavior, 10), (5, behavior, 20)], [(2, 0, 0), (2, 1, 5), (7, 2, 6)], [(1, behavior, 0)]]
    histories = in_double(pack_rows(rows, behaviors=3, asked=2))
    logits = model.interact(model.encode(histories), histories, torch.arange(shop.n_items)[None])
    for row, events in enumerate(rows_of(histories)):
        expected = [
            oracle(model, shop.feedback.tolist(), events, int(histories.now[row]), j) for j in range(shop.n_items)
        ]
        np.testing.assert_allclose(logits[row].detach().numpy(), expected, rtol=1e-9, atol=1e-11)
    yes = torch.ones(3, 1, dtype=torch.bool)
    batch = ImpressionBatch(histories, torch.full((3, 1), 4), yes.double(), yes, ~yes, torch.arange(3))
    total_loss(model, loss_function("log_loss"), batch).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def cosine(a: Array, b: Array) -> float:
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return abs(float(a @ b)) / lengths if lengths else 0.0


def test_the_loss_has_three_terms(shop: Snapshot) -> None:
    """Each over the batch's candidates; several events of the newest moment are one question."""
    said, gamma, beta = shop.feedback.tolist(), 0.3, 0.7
    model = stirred(build("feedrec", {"d": 8, "orthogonality": gamma, "multi_task": beta}, shop)).double()
    assert isinstance(model, FeedRec)
    (batch,) = ImpressionData(shop, "leave_one_out", max_length=7, batch_size=10_000).batches(0)
    batch = in_double(batch.part(0, 25))
    time = batch.histories.time // 20_000_000
    batch = replace(batch, histories=replace(batch.histories, time=time))
    expected, several = 0.0, 0
    task_mixed, task_bias = (model.state_dict()[name].numpy() for name in ("task_mixed", "task_bias"))
    for row, events in enumerate(rows_of(batch.histories)):
        now = int(batch.histories.now[row])
        p, weak_p, n, weak_n = interests(model, said, events, now)
        further = gamma * (cosine(p, n) + cosine(weak_p, weak_n))
        item, _, last = events[-1]
        earlier = [event for event in events if event[2] < last]
        done = {event[1] for event in events if event[0] == item and event[2] == last}
        several += len(events) - len(earlier) > 1
        if earlier:
            known = interests(model, said, earlier, last)
            for behavior in range(3):
                z = float((known * task_mixed[behavior]).sum(0) @ model.items.weight[item].detach().numpy())
                z += float(task_bias[behavior])
                further += beta / 3 * float(np.log1p(np.exp(-z if behavior in done else z)))
        for column in batch.real[row].nonzero()[:, 0].tolist():
            z = oracle(model, said, events, now, int(batch.items[row, column]))
            expected += further + float(np.log1p(np.exp(-z if batch.labels[row, column] else z)))
    assert several
    with torch.no_grad():
        found = float(total_loss(model, loss_function("log_loss"), batch))
    np.testing.assert_allclose(found, expected / float(batch.real.sum()), rtol=1e-9)
