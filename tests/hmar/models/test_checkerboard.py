"""A board with a right answer: users of even taste take even items, the others odd ones. Every model must learn it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.batches import TrainingData
from hmar.data.impressions import ImpressionData
from hmar.data.snapshot import Snapshot
from hmar.losses import LOSSES, loss_function, total_loss
from hmar.models import MODELS, model_class
from hmar.models.base import Encoder
from hmar.models.ranker import Ranker
from tests.support.arrays import Event, write_impressions, write_snapshot
from tests.support.contract import LOSS_DATA
from tests.support.models import ask, build

ITEMS, USERS, EVENTS = 24, 60, 9

# Views tell as much as buys here, and what weighs little beside its negatives is learned slowly. The batches of one
# board are learned by heart before long by what is as wide as a model for real logs.
OWN: dict[str, dict[str, Any]] = {
    "hmar_plus": {"auxiliary": 1.0},
    "atrank": {"d": 32, "dropout": 0.5},
    "caser": {"dropout": 0.5, "horizontal": 4, "vertical": 1},
    "cnn": {"d": 32, "dropout": 0.5, "windows": 3},
    "bi_lstm": {"d": 32, "dropout": 0.5},
    "bi_lstm_attention": {"d": 32, "dropout": 0.5},
}

QUICK = ("din",)
"""The ranker whose board takes a second; encoders are quick with one negative."""


def config_of(name: str, **wanted: Any) -> dict[str, Any]:
    """What is wanted of a model, as far as it has such settings, and its own."""
    known = model_class(name).Config.model_fields
    return {key: value for key, value in wanted.items() if key in known} | OWN.get(name, {})


def board(path: Path, tastes: int) -> Snapshot:
    """User u takes items i with i % 2 == u % tastes, each once, in random order: views first, then buys."""
    rng = np.random.default_rng(0)
    users: list[list[Event]] = []
    for user in range(USERS):
        own = np.arange(user % tastes, ITEMS, 2)
        taken = rng.permutation(own)[:EVENTS]
        users.append([(int(item), 0 if t < EVENTS // 2 else 2, t) for t, item in enumerate(taken)])
    return write_snapshot(path, users, items=ITEMS)


def right_order(scores: torch.Tensor, snapshot: Snapshot) -> float:
    """Share of (item of the user's taste, other item) pairs, among items the user has not had, in the right order."""
    shares = []
    for user in range(USERS):
        had = set(snapshot.item[snapshot.offsets[user] : snapshot.offsets[user + 1]].tolist())
        taste = snapshot.item[snapshot.offsets[user]] % 2
        own = [item for item in range(ITEMS) if item % 2 == taste and item not in had]
        others = [item for item in range(ITEMS) if item % 2 != taste]
        shares.append((scores[user][own][:, None] > scores[user][others][None, :]).float().mean().item())
    return float(np.mean(shares))


@pytest.mark.parametrize("name", [name for name in MODELS if model_class(name).family == "encoder"])
@pytest.mark.parametrize(
    "loss_name", [pytest.param(name, marks=[] if name == "bce" else [pytest.mark.slow]) for name in LOSSES]
)
def test_an_encoder_learns_the_board(name: str, loss_name: str, tmp_path: Path) -> None:
    snapshot = board(tmp_path / "board", tastes=2)
    model, loss = build(name, config_of(name, d=16, dropout=0.1), snapshot), loss_function(loss_name)
    assert isinstance(model, Encoder)
    given = {**LOSS_DATA[loss_name], "recency": model.uses_recency}
    data = TrainingData(snapshot, "leave_one_out", max_length=20, batch_size=20, **given)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    before = right_order(model.score_all(*ask(model, snapshot, range(USERS))), snapshot)
    model.train()
    for epoch in range(50):
        for batch in data.batches(epoch):
            optimizer.zero_grad()
            total_loss(model, loss, batch).backward()
            optimizer.step()
    model.eval()
    after = right_order(model.score_all(*ask(model, snapshot, range(USERS))), snapshot)
    assert before < 0.8
    assert after > 0.98


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name in MODELS
        if model_class(name).family == "ranker"
    ],
)
def test_a_ranker_learns_the_board(name: str, tmp_path: Path) -> None:
    snapshot = write_impressions(board(tmp_path / "board", tastes=2), ("view", "buy"), (), sampled=2)
    model, loss = build(name, config_of(name, dropout=0.1), snapshot), loss_function("log_loss")
    assert isinstance(model, Ranker)
    data = ImpressionData(snapshot, "leave_one_out", max_length=20, batch_size=60)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    before = right_order(model.score_all(*ask(model, snapshot, range(USERS))), snapshot)
    model.train()
    for epoch in range(40):
        for batch in data.batches(epoch):
            optimizer.zero_grad()
            total_loss(model, loss, batch).backward()
            optimizer.step()
    model.eval()
    after = right_order(model.score_all(*ask(model, snapshot, range(USERS))), snapshot)
    assert before < 0.8
    assert after > 0.98


@pytest.mark.parametrize("name", [name for name in MODELS if not model_class(name).trainable])
def test_a_rule_learns_the_board_of_one_taste(name: str, tmp_path: Path) -> None:
    snapshot = board(tmp_path / "board", tastes=1)
    model = build(name, {}, snapshot)
    assert right_order(model.score_all(*ask(model, snapshot, range(USERS))), snapshot) == 1
