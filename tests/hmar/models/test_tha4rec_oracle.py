"""THA4Rec against its equations (docstring of hmar.models.tha4rec), in float64 loops over one user and candidate."""

from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.layers.segments import Segments
from hmar.models.tha4rec import THA4Rec
from tests.support.model_oracle import (
    Array,
    Event,
    Weights,
    event_vectors,
    feed_forward,
    linear,
    net_of_pair,
    norm,
    softmax,
    weights,
)
from tests.support.models import ask, build, hours_apart, rows_of


def attended(rows: list[Array], w: Weights, name: str, heads: int, talking: bool) -> list[Array]:
    """Causal attention: what every row sees of itself and those before it."""
    d = len(rows[0])
    width = d // heads
    projected = [linear(w, f"{name}.qkv", row) for row in rows]
    q, k, v = ([p[part * d : (part + 1) * d].reshape(heads, width) for p in projected] for part in range(3))
    before, after = (w[f"{name}.{each}"] if talking else np.eye(heads) for each in ("logits", "weights"))
    results = []
    for t in range(len(rows)):
        logits = [[float(q[t][h] @ k[s][h]) / np.sqrt(width) for s in range(t + 1)] for h in range(heads)]
        maps = []
        for g in range(heads):
            maps.append(softmax(sum(before[g, h] * np.array(logits[h]) for h in range(heads))))
        out = []
        for g in range(heads):
            shares = sum(after[g, h] * maps[h] for h in range(heads))
            out.append(sum(shares[s] * v[s][g] for s in range(t + 1)))
        results.append(np.concatenate(out))
    return results


def logit(model: THA4Rec, events: list[Event], now: int, candidate: int) -> float:
    """The logit of one candidate after (item, behavior, microseconds) events."""
    w, config = weights(model), model.config
    places = w["positions.table.weight"][: len(events)][::-1]
    rows = [x + place for x, place in zip(event_vectors(w, config, events, now), places, strict=True)]
    for number in range(config.blocks):
        block = f"blocks.{number}"
        seen = attended(
            [norm(w, f"{block}.attention_norm", x) for x in rows],
            w,
            f"{block}.attention",
            config.heads,
            config.talking,
        )
        rows = [x + each for x, each in zip(rows, seen, strict=True)]
        for place, x in enumerate(rows):
            y = norm(w, f"{block}.feed_forward_norm", x)
            rows[place] = x + feed_forward(w, f"{block}.feed_forward.inner", f"{block}.feed_forward.outer", y)
    states = [norm(w, "norm", x) for x in rows]
    s = states[-1] if config.pool == "newest" else sum(states) / len(states)
    q = w["items.weight"][candidate]
    return net_of_pair(w, "net", len(config.hidden), s, q) + float(w["bias.weight"][candidate, 0])


def shaken(config: dict[str, Any], shop: Snapshot) -> THA4Rec:
    """With every parameter far from where it starts."""
    model = build("tha4rec", {"d": 8, "hidden": [9, 5], "positions": 9, **config}, shop).double()
    assert isinstance(model, THA4Rec)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"talking": False, "behavior": False},
        {"heads": 8, "blocks": 2, "pool": "newest"},
        {"heads": 2, "time": False, "hidden": [6]},
    ],
)
def test_logits(config: dict[str, Any], shop: Snapshot) -> None:
    model = shaken(config, shop)
    histories, seen = ask(model, shop, range(12), max_length=7)
    histories = hours_apart(histories)
    with torch.no_grad():
        scores = model.score_all(histories, seen)
    for row, events in enumerate(rows_of(histories)):
        expected = [logit(model, events, int(histories.now[row]), j) for j in range(shop.n_items)]
        np.testing.assert_allclose(scores[row].numpy(), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("heads", [1, 4])
def test_heads_that_only_hear_themselves_are_plain_attention(heads: int, shop: Snapshot) -> None:
    """Unit matrices between heads, where training starts, are multi-head attention with the same weights."""
    talking, plain = (
        build("tha4rec", {"d": 8, "heads": heads, "blocks": 2, "talking": one}, shop) for one in (True, False)
    )
    missing, unexpected = plain.load_state_dict(talking.state_dict(), strict=False)
    assert not missing
    assert {name.rpartition(".")[2] for name in unexpected} == {"logits", "weights"}
    histories, seen = ask(talking, shop, range(shop.n_users))
    with torch.no_grad():
        torch.testing.assert_close(talking.score_all(histories, seen), plain.score_all(histories, seen))
        assert isinstance(talking, THA4Rec)
        for block in talking.blocks:
            block.attention.weights.fill_(1 / heads)  # type: ignore[union-attr]
    same = torch.allclose(talking.score_all(histories, seen), plain.score_all(histories, seen), atol=1e-4)
    assert same == (heads == 1)


def test_what_heads_look_at(shop: Snapshot) -> None:
    """The weights by which values are summed, of every event where their mean is read, else of the newest."""
    for pool, read in (("mean", "all"), ("newest", "newest")):
        model = shaken({"pool": pool}, shop).float()
        history, seen = ask(model, shop, [3], max_length=9)
        found = model.looks_at(history, seen, torch.zeros(1, 1, dtype=torch.int64))["blocks.0.attention"]
        assert found.read == read
        x_TD = torch.randn(len(history.item), 8)
        attention = model.blocks[0].attention
        segments = Segments.of_rows(history)
        with torch.no_grad():
            weights = attention.attention_weights(x_TD, segments).weights  # type: ignore[union-attr,operator]
            values = attention.qkv(x_TD)[:, 16:].view(-1, 4, 2).transpose(0, 1)  # type: ignore[union-attr,operator]
            expected = (weights @ values).transpose(0, 1).reshape(-1, 8)
            torch.testing.assert_close(attention(x_TD, segments), expected)  # type: ignore[operator]
