"""What registered models say that they look at."""

from typing import Any

import pytest
import torch

from hmar.data.snapshot import Snapshot
from tests.support.contract import CASES
from tests.support.models import ask, build, stirred

LAYERS = {
    "hmar": {"behavior_blocks.0", "sequence_blocks.0.attention"},
    "hmar_plus": {"blocks.0.attention", "blocks.1.attention"},
    "sasrec": {"blocks.0.attention", "blocks.1.attention"},
    "din": {"attention"},
    "dfar": {"block.attention", "positive.block.attention", "positive.attention"},
    "dien": {"attention"},
    "tha4rec": {"blocks.0.attention"},
    "atrank": {"blocks.0", "attention"},
    "dfn": {"internal.0", "internal.1", "internal.2", "external.0", "external.1"},
    "feedrec": {"liked_events", "weak_liked_events", "weak_disliked_events"},
    "bi_lstm_attention": {"attention"},
    "popularity": set(),
    "recent": set(),
}
"""Of the defaults."""


@pytest.mark.parametrize(("name", "label", "config"), [pytest.param(*case, id="-".join(case[:2])) for case in CASES])
def test_weights_of_every_model(name: str, label: str, config: dict[str, Any], shop: Snapshot) -> None:
    """Named maps over the events that are read, and the score is the same with and without a look."""
    model = stirred(build(name, config, shop))
    items = torch.arange(3)[None]
    named: set[str] = set()
    for user in range(4):
        history, seen = ask(model, shop, [user], max_length=9)
        scores = model.score(history, seen, items)
        found = model.looks_at(history, seen, items)
        assert torch.equal(model.score(history, seen, items), scores)
        for one in found.values():
            queries = 3 if one.queries == "candidates" else len(history.item)
            assert one.weights.shape == (len(one.maps), queries, len(history.item))
            assert torch.isfinite(one.weights).all()
            assert one.of_events(2).shape == (len(history.item),)
        named |= set(found)
    if label in ("default", "pre"):
        assert LAYERS.get(name, set()) <= named


@pytest.mark.parametrize("name", ["atrank", "dfar", "dfn", "din", "bi_lstm_attention"])
def test_many_candidates_are_looked_at_like_few(name: str, shop: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though scoring takes them in several passes."""
    model = stirred(build(name, {"d": 16}, shop))
    history, seen = ask(model, shop, [3], max_length=9)
    items = torch.arange(12)[None]
    whole = model.looks_at(history, seen, items)
    monkeypatch.setattr(type(model), "pairs_at_once", 2 * len(history.item))
    found = model.looks_at(history, seen, items)
    assert list(found) == list(whole)
    for layer, one in found.items():
        torch.testing.assert_close(one.weights, whole[layer].weights)


@pytest.mark.parametrize("name", ["hmar", "din"])
def test_nothing_done_nothing_to_look_at(name: str, shop: Snapshot) -> None:
    model = build(name, {"d": 8}, shop)
    history, seen = ask(model, shop, [0], [int(shop.offsets[0])])
    assert model.looks_at(history, seen, torch.zeros(1, 1, dtype=torch.int64)) == {}
