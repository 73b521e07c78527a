"""What DIEN is for: interests that move (Drift of tests.support.planted), and states that are told what comes next."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hmar.data.impressions import ImpressionData
from hmar.losses import loss_function, total_loss
from hmar.models.base import Recommender
from hmar.models.ranker import Ranker
from tests.support.arrays import Event, write_impressions, write_snapshot
from tests.support.models import build
from tests.support.planted import Drift, drift


def trained(
    name: str, config: dict[str, Any], users: list[list[Event]], held_out: int, path: Path, batch_size: int, epochs: int
) -> Recommender:
    snapshot = write_snapshot(path / "snapshot", users, items=Drift.ITEMS, held_out=held_out)
    snapshot = write_impressions(snapshot, ("buy",), (), sampled=2)
    model = build(name, config, snapshot)
    if not isinstance(model, Ranker):
        return model
    data = ImpressionData(snapshot, "leave_one_out", max_length=20, batch_size=batch_size, negatives=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.train()
    for epoch in range(epochs):
        for batch in data.batches(epoch):
            optimizer.zero_grad()
            total_loss(model, loss_function("log_loss"), batch).backward()
            optimizer.step()
    return model.eval()


@pytest.mark.parametrize(
    ("name", "config", "finds"),
    [
        ("dien", {"d": 16, "dropout": 0.0}, True),
        ("din", {"d": 16, "dropout": 0.0}, False),
        ("popularity", {}, False),
    ],
)
def test_a_drift_is_followed(name: str, config: dict[str, Any], finds: bool, tmp_path: Path) -> None:
    """The categories ahead and behind differ by the order of the events alone, which DIN does not read."""
    model = trained(name, config, drift(150, seed=0).users, Drift.TAKEN, tmp_path, batch_size=100, epochs=20)
    share = drift(100, seed=99).found(model)
    assert share > 0.9 if finds else 0.4 < share < 0.6


def test_the_auxiliary_loss_learns_from_events_without_a_label(tmp_path: Path) -> None:
    """One purchase per user at the end of views is too little to learn how interests move; the views tell."""
    views = drift(160, seed=0, behavior=0).asked
    users = [[*events[:-1], (events[-1][0], 2, events[-1][2])] for events in views]
    shares = [
        drift(200, seed=99, behavior=0).found(
            trained(
                "dien",
                {"d": 16, "dropout": 0.0, "auxiliary": auxiliary},
                users,
                0,
                tmp_path / str(auxiliary),
                batch_size=50,
                epochs=25,
            )
        )
        for auxiliary in (0.0, 1.0)
    ]
    assert shares[1] > shares[0] + 0.15
