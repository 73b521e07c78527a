"""What models of several feedbacks are for (tests.support.planted_feedback)."""

from pathlib import Path
from typing import Any

import pytest

from hmar.data.snapshot import Snapshot
from hmar.models.base import Encoder
from hmar.models.ranker import Ranker
from tests.support.models import build
from tests.support.planted_feedback import clicks_among_views, dislikes, found, trained


def learned(name: str, config: dict[str, Any], snapshot: Snapshot, epochs: int, seed: int = 0) -> float:
    model = build(name, config, snapshot, seed)
    if isinstance(model, Encoder | Ranker):
        trained(model, snapshot, max_length=4, epochs=epochs)
    return found(model, snapshot, 4)


@pytest.mark.parametrize(("name", "config"), [("dfn", {}), ("dfar", {"std": 1.0})])
def test_what_was_disliked_is_avoided(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    given = {"d": 16, "dropout": 0.0, **config}
    assert learned(name, given, dislikes(tmp_path / "snapshot"), epochs=10) > 0.95


@pytest.mark.parametrize(
    ("name", "config"), [("din", {"d": 16, "behavior": False}), ("bpr_mf", {"d": 16}), ("popularity", {})]
)
def test_who_does_not_know_what_events_say_does_not_find_it(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    assert 0.35 < learned(name, config, dislikes(tmp_path / "snapshot"), epochs=10) < 0.65


@pytest.mark.slow
def test_clicks_find_the_views_that_matter(tmp_path: Path) -> None:
    """DFN's external attention finds them sooner; on the second of the seeds its absence costs little."""
    snapshot = clicks_among_views(tmp_path / "snapshot")

    def mean(external: bool) -> float:
        config = {"d": 16, "dropout": 0.0, "external": external}
        return sum(learned("dfn", config, snapshot, epochs=20, seed=seed) for seed in range(3)) / 3

    assert mean(external=True) > 0.9
    assert mean(external=False) < 0.8


def test_views_alone_say_nothing(tmp_path: Path) -> None:
    assert 0.35 < learned("bpr_mf", {"d": 16}, clicks_among_views(tmp_path / "snapshot"), epochs=5) < 0.65
