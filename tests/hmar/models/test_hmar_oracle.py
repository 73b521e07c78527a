"""HMAR against its equations (docstring of hmar.models.hmar), written with float64 loops over one user at a time."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.batches import TrainingData
from hmar.data.snapshot import Snapshot
from hmar.errors import SettingsError
from hmar.losses import loss_function, total_loss
from hmar.models.base import Vocabulary
from hmar.models.hmar import HMAR, HMARConfig
from tests.support.arrays import write_snapshot
from tests.support.model_oracle import Array, attend, feed_forward, norm, softmax, weights
from tests.support.models import ask, build, in_double

R = 3


class Oracle:
    def __init__(self, model: HMAR) -> None:
        self.config = model.config
        self.w = weights(model)

    def fuse(self, item: Array, counts: Array) -> Array:
        w = self.w
        if self.config.hbi == "none":
            return item @ w["fuse.weight"].T + w["fuse.bias"]
        context = counts @ w["counts.weight"].T + w["counts.bias"]
        return np.concatenate([item, context]) @ w["fuse.weight"].T + w["fuse.bias"]

    def states(self, items: list[int], behaviors: list[int], hbi: Array) -> Array:
        w, config = self.w, self.config
        s = np.array(
            [
                self.fuse(math.sqrt(config.d) * w["items.weight"][item], hbi[t])
                + w["positions.table.weight"][t if config.positions_from == "oldest" else len(items) - 1 - t]
                for t, item in enumerate(items)
            ]
        )
        x, positions = s, range(len(items))
        for block in range(config.blocks if config.behavior_encoder else 0):
            z = np.zeros_like(x)
            for b in range(R):
                own = {k.removeprefix(f"behavior_blocks.{block}."): v for k, v in w.items()}
                mine = {k: own[k][b] for k in ("qkv.weight", "qkv.bias", "rho")}
                mine |= {f"{n}.{p}": own[f"{n}.{p}"][b] for n in ("inner", "outer") for p in ("weight", "bias")}
                visible = [
                    [u for u in range(t + 1) if behaviors[u] == b] if behaviors[t] == b else [t] for t in positions
                ]
                a = attend(x, visible, mine["qkv.weight"], mine["qkv.bias"], config.heads)
                y = a + feed_forward(mine, "inner", "outer", a) + mine["rho"] * x
                for t in positions:
                    if behaviors[t] == b:
                        z[t] = y[t]
            x = z
        for block in range(config.blocks if config.sequence_encoder else 0):
            own = {k.removeprefix(f"sequence_blocks.{block}."): v for k, v in w.items()}
            visible = [list(range(t + 1)) for t in positions]
            x = attend(x, visible, own["attention.qkv.weight"], own["attention.qkv.bias"], config.heads) + s
            x = norm(own, "norm", x)
            x = x + feed_forward(own, "feed_forward.inner", "feed_forward.outer", x)
            if config.last_norm:
                x = norm(own, "last_norm", x)
        return x

    def candidate(self, item: int, counts: Array) -> Array:
        return self.fuse(self.w["items.weight"][item], counts)


def counts_before(snapshot: Snapshot, user: int, end: int, item: int, asked: int) -> Array:
    counts = np.zeros(R)
    for row in range(snapshot.offsets[user], end):
        counts[snapshot.behavior[row]] += snapshot.item[row] == item
    counts[asked] += 1
    return counts


def contexts(
    snapshot: Snapshot, config: HMARConfig, user: int, rows: list[int], negatives: list[int]
) -> tuple[list[Array], list[Array], list[Array], list[int]]:
    """Counts of the inputs rows[:-1], of the true items rows[1:] and of the negatives, and the labels of the head."""
    whole = int(snapshot.offsets[user + 1])

    def so_far(row: int, item: int) -> Array:
        return counts_before(snapshot, user, row, item, int(snapshot.behavior[row]))

    def of_the_file(row: int) -> Array:
        mine = [r for r in range(int(snapshot.offsets[user]), whole) if snapshot.item[r] == snapshot.item[row]]
        return np.array([sum(snapshot.behavior[r] == b for r in mine) for b in range(R)], float)

    item = {row: int(snapshot.item[row]) for row in rows}
    told = [of_the_file(row) if config.hbi == "final" else so_far(row, item[row]) for row in rows[:-1]]
    true = [of_the_file(row) if config.candidate_hbi == "published" else so_far(row, item[row]) for row in rows[1:]]
    false = true
    if config.candidate_hbi == "running":
        false = [so_far(row, negative) for row, negative in zip(rows[1:], negatives, strict=True)]
    labels = [int(snapshot.behavior[row]) for row in rows[1:]]
    if config.mirrored_context:
        told, true, false, labels = told[::-1], true[::-1], false[::-1], labels[::-1]
    return told, true, false, labels


BASE = {"d": 6, "heads": 2, "positions": 12, "dropout": 0.3}
CONFIGS: list[dict[str, Any]] = [
    BASE,
    {**BASE, "blocks": 2, "alpha": {"buy": 0.7, "view": 0.2}, "theta": 0.4},
    {**BASE, "hbi": "none"},
    {**BASE, "behavior_encoder": False},
    {**BASE, "sequence_encoder": False},
    {**BASE, "theta": 0.0},
    {**BASE, "hbi": "final", "theta": 0.7},
    {**BASE, "candidate_hbi": "published", "theta": 0.7},
    {**BASE, "mirrored_context": True, "theta": 0.7},
    {**BASE, "hbi": "final", "candidate_hbi": "published", "mirrored_context": True, "alpha": {"buy": 0.7, "view": 0.2},
     "attention_dropout": 0.3, "positions_from": "newest", "last_norm": True},
]  # fmt: skip
IDS = [
    "base", "two-blocks", "no-hbi", "no-behavior-encoder", "no-sequence-encoder", "no-head",
    "final-counts", "published-candidates", "mirrored-context", "as-published",
]  # fmt: skip


@pytest.fixture(params=CONFIGS, ids=IDS)
def model(request: pytest.FixtureRequest, shop: Snapshot) -> HMAR:
    built = build("hmar", request.param, shop).double()
    assert isinstance(built, HMAR)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return built


def test_scores(model: HMAR, shop: Snapshot) -> None:
    oracle, max_length, asked = Oracle(model), 12, 1
    users = [0, 3, 8, 11]
    histories, seen = (in_double(part) for part in ask(model, shop, users, max_length=max_length, asked=asked))
    with torch.no_grad():
        scores, states = model.score_all(histories, seen).numpy(), model.encode(histories).numpy()
    for place, user in enumerate(users):
        end = int(shop.offsets[user + 1])
        rows = range(max(int(shop.offsets[user]), end - max_length), end)
        expected = oracle.states(
            [int(shop.item[r]) for r in rows], [int(shop.behavior[r]) for r in rows], shop.hbi[list(rows)].astype(float)
        )
        part = slice(int(histories.offsets[place]), int(histories.offsets[place + 1]))
        np.testing.assert_allclose(states[part], expected, rtol=1e-9, atol=1e-9)
        for item in range(shop.n_items):
            vector = oracle.candidate(item, counts_before(shop, user, end, item, asked))
            np.testing.assert_allclose(scores[place, item], expected[-1] @ vector, rtol=1e-9, atol=1e-9)


def test_loss(model: HMAR, shop: Snapshot) -> None:
    """With the counts that each position is given: those so far, or what the published code hands out."""
    oracle, config = Oracle(model), model.config
    max_length = 12
    data = TrainingData(shop, "leave_one_out", max_length=max_length, batch_size=5, published=model.published)
    batch = next(data.batches(0))
    rank, classes = [], []
    t = -1
    for user in batch.user.tolist():
        end = int(data.snapshot.train_end("leave_one_out")[user])
        rows = list(range(max(int(shop.offsets[user]), end - max_length - 1), end))
        negatives = batch.negatives[t + 1 : t + len(rows), 0].tolist()
        told, true, false, labels = contexts(shop, config, user, rows, negatives)
        states = oracle.states(
            [int(shop.item[r]) for r in rows[:-1]], [int(shop.behavior[r]) for r in rows[:-1]], np.array(told)
        )
        for place, (h, row) in enumerate(zip(states, rows[1:], strict=True)):
            t += 1
            b, item = int(shop.behavior[row]), int(shop.item[row])
            positive_vector = oracle.candidate(item, true[place])
            negative_vector = oracle.candidate(negatives[place], false[place])
            weight = config.alpha.get(shop.behaviors[b], 1.0)
            rank.append(weight * math.log1p(math.exp(-h @ positive_vector)) + math.log1p(math.exp(h @ negative_vector)))
            if config.theta == 0:
                classes.append(0.0)
                continue
            hidden = np.maximum(
                oracle.w["head.0.weight"] @ np.concatenate([positive_vector, h]) + oracle.w["head.0.bias"], 0
            )
            odds = softmax(oracle.w["head.2.weight"] @ hidden + oracle.w["head.2.bias"])
            classes.append(-math.log(odds[labels[place]]))
    assert t + 1 == len(batch.next_item)
    loss = total_loss(model, loss_function("bce"), in_double(batch)).item()
    assert loss == pytest.approx(np.mean(rank) + config.theta * np.mean(classes), rel=1e-7)  # alpha is float32


def test_without_auxiliary_behaviors_they_change_nothing(tmp_path: Path) -> None:
    """Neither as events nor as counts."""
    buys = [[(i % 7, 2, 10 * i) for i in range(u, u + 6)] for u in range(5)]
    both = [[e for item, b, t in row for e in ((item, 0, t - 3), (6 - item, 1, t - 2), (item, b, t))] for row in buys]
    scores = []
    for name, users in (("buys", buys), ("both", both)):
        snapshot = write_snapshot(tmp_path / name, users, items=7, held_out=0)
        model = build("hmar", {"behaviors": "target"}, snapshot)
        with torch.no_grad():
            scores.append(model.score_all(*ask(model, snapshot, range(5))))
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-5, atol=1e-5)


def test_rho_starts_at_zero(shop: Snapshot) -> None:
    model = build("hmar", {"blocks": 2}, shop)
    assert isinstance(model, HMAR)
    assert all((block.rho == 0).all() for block in model.behavior_blocks)


def test_an_unknown_behavior_in_alpha_names_the_nearest(shop: Snapshot) -> None:
    with pytest.raises(SettingsError, match=r"config\.alpha: unknown behavior 'bui'; did you mean 'buy'\?"):
        HMAR(HMARConfig(alpha={"bui": 0.7}), Vocabulary.of(shop))


def test_contradictory_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="d must be a multiple of heads"):
        HMARConfig.parse({"d": 10, "heads": 3})
    with pytest.raises(SettingsError, match="alpha: the weight of 'buy' must not be negative"):
        HMARConfig.parse({"alpha": {"buy": -1}})


@pytest.mark.parametrize("hbi", ["running", "none"])
def test_many_items_at_once_are_what_they_are_one_by_one(hbi: str, shop: Snapshot) -> None:
    """More questions than items take another way through W_f, to the same vectors and the same gradients."""
    model = build("hmar", {**BASE, "hbi": hbi}, shop).double()
    assert isinstance(model, HMAR)
    torch.manual_seed(3)
    items = torch.randint(shop.n_items, (2 * shop.n_items,))
    counts = torch.randint(4, (len(items), R)).double() if hbi == "running" else None
    weights = torch.randn(len(items), BASE["d"], dtype=torch.float64)
    few = [slice(start, start + shop.n_items // 2) for start in range(0, len(items), shop.n_items // 2)]
    ways = (
        model.item_vectors(items, counts),
        torch.cat([model.item_vectors(items[part], None if counts is None else counts[part]) for part in few]),
    )
    torch.testing.assert_close(*ways, rtol=1e-12, atol=1e-12)
    used = [model.items.weight, model.fuse.weight, model.fuse.bias]
    gradients = [torch.autograd.grad((way * weights).sum(), used) for way in ways]
    for many, single in zip(*gradients, strict=True):
        torch.testing.assert_close(many, single, rtol=1e-10, atol=1e-10)
