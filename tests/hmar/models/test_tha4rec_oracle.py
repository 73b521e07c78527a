"""THA4Rec against its equations (docstring of hmar.models.tha4rec), in float64 loops over one user and candidate."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.snapshot import Snapshot
from hmar.layers.segments import Segments
from hmar.models.tha4rec import THA4Rec
from tests.hmar.models.test_din_oracle import bucket, prelu
from tests.support.models import ask, build, in_double

Array = np.ndarray
Event = tuple[int, int, int]

HOUR = 3_600_000_000


def normalized(x: Array, w: dict[str, Array], name: str) -> Array:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def attended(rows: list[Array], w: dict[str, Array], name: str, heads: int, talking: bool) -> list[Array]:
    """Causal attention: what every row sees of itself and those before it."""
    d = len(rows[0])
    width = d // heads
    projected = [w[f"{name}.qkv.weight"] @ row + w[f"{name}.qkv.bias"] for row in rows]
    q, k, v = ([p[part * d : (part + 1) * d].reshape(heads, width) for p in projected] for part in range(3))
    before, after = (w[f"{name}.{each}"] if talking else np.eye(heads) for each in ("logits", "weights"))
    results = []
    for t in range(len(rows)):
        logits = [[float(q[t][h] @ k[s][h]) / np.sqrt(width) for s in range(t + 1)] for h in range(heads)]
        maps = []
        for g in range(heads):
            said = np.exp(sum(before[g, h] * np.array(logits[h]) for h in range(heads)))
            maps.append(said / said.sum())
        out = []
        for g in range(heads):
            shares = sum(after[g, h] * maps[h] for h in range(heads))
            out.append(sum(shares[s] * v[s][g] for s in range(t + 1)))
        results.append(np.concatenate(out))
    return results


def logit(model: THA4Rec, events: list[Event], now: int, candidate: int) -> float:
    """The logit of one candidate after (item, behavior, microseconds) events."""
    w, config = {name: tensor.numpy() for name, tensor in model.state_dict().items()}, model.config
    rows = []
    for place, (item, behavior, time) in enumerate(events):
        x = w["items.weight"][item] + w["positions.table.weight"][len(events) - 1 - place]
        if config.behavior:
            x = x + w["inputs.behavior.weight"][behavior]
        if config.time:
            x = x + w["inputs.time.weight"][bucket(now - time)]
        rows.append(x)
    for number in range(config.blocks):
        block = f"blocks.{number}"
        seen = attended(
            [normalized(x, w, f"{block}.attention_norm") for x in rows],
            w,
            f"{block}.attention",
            config.heads,
            config.talking,
        )
        rows = [x + each for x, each in zip(rows, seen, strict=True)]
        for place, x in enumerate(rows):
            inner = w[f"{block}.feed_forward.inner.weight"] @ normalized(x, w, f"{block}.feed_forward_norm")
            inner = np.maximum(inner + w[f"{block}.feed_forward.inner.bias"], 0)
            outer = w[f"{block}.feed_forward.outer.weight"] @ inner + w[f"{block}.feed_forward.outer.bias"]
            rows[place] = x + outer
    states = [normalized(x, w, "norm") for x in rows]
    s = states[-1] if config.pool == "newest" else sum(states) / len(states)
    q = w["items.weight"][candidate]
    x = np.concatenate([s, q, s * q])
    for layer in range(0, 2 * len(config.hidden), 2):
        x = prelu(w[f"net.{layer}.weight"] @ x + w[f"net.{layer}.bias"], w[f"net.{layer + 1}.weight"])
    return float(w[f"net.{2 * len(config.hidden)}.weight"][0] @ x + w["bias.weight"][candidate, 0])


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
    # Events of seconds, asked years later, would all be in one bucket.
    time = torch.cat([torch.arange(int(length)) ** 4 * HOUR for length in histories.lengths])
    histories = replace(in_double(histories), time=time, now=torch.full((12,), 9**4 * HOUR))
    with torch.no_grad():
        scores = model.score_all(histories, seen)
    for row in range(12):
        tokens = range(int(histories.offsets[row]), int(histories.offsets[row + 1]))
        events = [(int(histories.item[t]), int(histories.behavior[t]), int(histories.time[t])) for t in tokens]
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
