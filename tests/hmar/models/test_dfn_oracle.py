"""DFN against its equations (docstring of hmar.models.dfn), in float64 loops over one user and one candidate: here a
candidate is an element of the transformers, and the history is encoded anew for each."""

from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.impressions import ImpressionData
from hmar.data.snapshot import Snapshot
from hmar.losses import loss_function, total_loss
from hmar.models.dfn import DFN
from tests.support.model_oracle import (
    Array,
    Event,
    Weights,
    bucket,
    event_vectors,
    feed_forward,
    linear,
    relu,
    target_attention,
    weighted,
    weights,
)
from tests.support.models import ask, build, hours_apart, in_double, pack_rows, rows_of, stirred


def transformer(w: Weights, name: str, heads: int, elements: list[Array]) -> Array:
    """The mean over all elements of a transformer layer of them, every element attending to every one."""
    width = len(elements[0])
    each = width // heads
    pooled = np.zeros(width)
    for z in elements:
        seen = []
        for head in range(heads):
            rows = [slice(part * width + head * each, part * width + (head + 1) * each) for part in range(3)]
            q, k, v = (w[f"{name}.qkv.weight"][part] for part in rows)
            scores = [float((q @ z) @ (k @ other)) / np.sqrt(each) for other in elements]
            seen.append(weighted(scores, [v @ other for other in elements]))
        pooled += feed_forward(w, f"{name}.inner", f"{name}.outer", np.concatenate(seen))
    return pooled / len(elements)


def oracle(model: DFN, said: list[int], events: list[Event], now: int, candidate: int) -> float:
    """The logit of one candidate after (item, behavior, microseconds) events, of which there is one at least."""
    w = weights(model)
    config = model.config
    sequences: dict[int, list[Array]] = {1: [], -1: [], 0: []}
    counts = dict.fromkeys(sequences, 0)
    for (item, behavior, _), x in zip(events, event_vectors(w, config, events, now), strict=True):
        sequences[said[behavior]].append(x)
        counts[said[behavior]] += item == candidate
    q = w["items.weight"][candidate]
    fields = [q]
    for number, kind in enumerate((1, -1, 0)):
        fields.append(transformer(w, f"internal.{number}", config.heads, [q, *sequences[kind]]))
    if config.external:
        for number in range(2):
            asked, layers = fields[1 + number], len(config.attention)
            fields.append(target_attention(w, f"external.{number}", layers, asked, sequences[0]))
    _, behavior, time = events[-1]
    codes = [behavior] * config.behavior + [bucket(now - time)] * config.time
    fields += [w[f"context.{number}.weight"][code] for number, code in enumerate(codes)]
    together = []
    if config.fm:
        together.append(sum(a * b for place, a in enumerate(fields) for b in fields[:place]))
    if config.deep:
        y = np.concatenate(fields)
        for layer in range(len(config.hidden)):
            y = relu(linear(w, f"fields.net.{2 * layer}", y))
        together.append(y)
    z = float(w["out.weight"][0] @ np.concatenate(together))
    if config.wide:
        z += float(w["wide.bias.weight"][candidate, 0])
        z += sum(
            float(weight) * np.log(1 + counts[kind]) for weight, kind in zip(w["wide.counts"], (1, -1, 0), strict=True)
        )
        z += sum(float(w[f"wide.context.{number}.weight"][code, 0]) for number, code in enumerate(codes))
    return z


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"heads": 4, "inner": 3, "attention": [7, 5], "hidden": [6]},
        {"external": False, "behavior": False},
        {"wide": False, "fm": False},
        {"deep": False, "time": False},
    ],
)
def test_logits(config: dict[str, Any], shop: Snapshot) -> None:
    model = stirred(build("dfn", {"d": 8, **config}, shop)).double()
    assert isinstance(model, DFN)
    said = shop.feedback.tolist()
    assert set(said) == {1, -1, 0}
    histories, seen = ask(model, shop, range(12), max_length=7)
    histories = hours_apart(histories)
    with torch.no_grad():
        scores = model.score_all(histories, seen)
    for row, events in enumerate(rows_of(histories)):
        expected = [oracle(model, said, events, int(histories.now[row]), j) for j in range(shop.n_items)]
        np.testing.assert_allclose(scores[row].numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("behavior", [0, 1, 2])
def test_sequences_may_be_missing(behavior: int, shop: Snapshot) -> None:
    """Histories in which all events say the same, beside ones in which they do not."""
    model = stirred(build("dfn", {"d": 8}, shop)).double()
    assert isinstance(model, DFN)
    rows = [[(3, behavior, 10), (5, behavior, 20)], [(2, 0, 0), (2, 1, 5), (7, 2, 6)], [(1, behavior, 0)]]
    histories = in_double(pack_rows(rows, behaviors=3, asked=2))
    with torch.no_grad():
        logits = model.interact(model.encode(histories), histories, torch.arange(shop.n_items)[None])
    for row, events in enumerate(rows_of(histories)):
        expected = [
            oracle(model, shop.feedback.tolist(), events, int(histories.now[row]), j) for j in range(shop.n_items)
        ]
        np.testing.assert_allclose(logits[row].numpy(), expected, rtol=1e-10, atol=1e-12)


def test_the_paper_weighs_dislikes(shop: Snapshot) -> None:
    """Log loss with weight 10 on what was disliked; what was only drawn beside a positive is weighed like that."""
    model = build("dfn", {"d": 8, "dislike": 10.0}, shop)
    assert isinstance(model, DFN)
    (batch,) = ImpressionData(shop, "leave_one_out", max_length=7, batch_size=10_000).batches(0)
    with torch.no_grad():
        z = model.interact(model.encode(batch.histories), batch.histories, batch.items).numpy()
        found = float(total_loss(model, loss_function("log_loss"), batch))
    label, real, sampled = batch.labels.numpy(), batch.real.numpy(), batch.sampled.numpy()
    each = np.log1p(np.exp(np.where(label > 0, -z, z)))
    weight = np.where((label == 0) & ~sampled, 10, 1)
    assert (real & (weight == 10)).any()
    assert (real & sampled).any()
    np.testing.assert_allclose(found, (each * weight * real).sum() / real.sum(), rtol=1e-5)
