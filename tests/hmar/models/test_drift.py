"""What order is for: interests that move (Drift of tests.support.planted), and DIEN's states that are told what comes
next."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.arrays import write_impressions, write_snapshot
from tests.support.planted import Drift, drift, fitted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "config", "finds"),
    [
        ("dien", {"d": 16, "dropout": 0.0}, True),
        ("tha4rec", {"d": 16, "dropout": 0.0, "pool": "newest"}, True),
        ("din", {"d": 16, "dropout": 0.0}, False),
        ("bpr_mf", {"d": 16}, False),
        ("popularity", {}, False),
    ],
)
def test_a_drift_is_followed(name: str, config: dict[str, Any], finds: bool, tmp_path: Path) -> None:
    """The categories ahead and behind differ by the order of the events alone, which the others do not read."""
    users = drift(150, seed=0).users
    snapshot = write_snapshot(tmp_path / "walks", users, items=Drift.ITEMS, held_out=Drift.TAKEN)
    snapshot = write_impressions(snapshot, ("buy",), (), sampled=2)
    share = drift(100, seed=99).found(fitted(name, config, snapshot, epochs=20, negatives=2))
    assert share > 0.9 if finds else 0.4 < share < 0.6


@pytest.mark.slow
def test_the_auxiliary_loss_learns_from_events_without_a_label(tmp_path: Path) -> None:
    """One purchase per user at the end of views is too little to learn how interests move; the views tell."""
    views = drift(160, seed=0, behavior=0).asked
    users = [[*events[:-1], (events[-1][0], 2, events[-1][2])] for events in views]
    snapshot = write_snapshot(tmp_path / "walks", users, items=Drift.ITEMS, held_out=0)
    snapshot = write_impressions(snapshot, ("buy",), (), sampled=2)
    without, told = (
        drift(200, seed=99, behavior=0).found(
            fitted(
                "dien",
                {"d": 16, "dropout": 0.0, "auxiliary": auxiliary},
                snapshot,
                epochs=25,
                batch_size=50,
                negatives=2,
            )
        )
        for auxiliary in (0.0, 1.0)
    )
    assert told > without + 0.15
