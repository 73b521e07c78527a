"""What models of several feedbacks are for (tests.support.planted_feedback)."""

from pathlib import Path
from typing import Any

import pytest

from hmar.data.snapshot import Snapshot
from tests.support.planted import fitted
from tests.support.planted_feedback import clicks_among_views, dislikes, found


def learned(name: str, config: dict[str, Any], snapshot: Snapshot, epochs: int, seed: int = 0) -> float:
    return found(fitted(name, config, snapshot, epochs=epochs, max_length=4, seed=seed), snapshot, max_length=4)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "config", "epochs"), [("dfn", {}, 8), ("feedrec", {}, 5), ("dfar", {"std": 1.0}, 10)])
def test_what_was_disliked_is_avoided(name: str, config: dict[str, Any], epochs: int, tmp_path: Path) -> None:
    assert learned(name, {"d": 16, "dropout": 0.0, **config}, dislikes(tmp_path / "snapshot"), epochs) > 0.95


@pytest.mark.parametrize(
    ("name", "config"), [("din", {"d": 16, "behavior": False}), ("bpr_mf", {"d": 16}), ("popularity", {})]
)
def test_who_does_not_know_what_events_say_does_not_find_it(name: str, config: dict[str, Any], tmp_path: Path) -> None:
    assert 0.35 < learned(name, config, dislikes(tmp_path / "snapshot"), epochs=10) < 0.65


@pytest.mark.slow
def test_clicks_find_the_views_that_matter(tmp_path: Path) -> None:
    """DFN's external attention finds them sooner. How soon depends on the seed, and on the order in which processors
    add: the means over seeds are far enough apart not to."""
    snapshot = clicks_among_views(tmp_path / "snapshot")

    def mean(external: bool) -> float:
        config = {"d": 16, "dropout": 0.0, "external": external}
        return sum(learned("dfn", config, snapshot, epochs=20, seed=seed) for seed in range(3)) / 3

    with_it = mean(external=True)
    assert with_it > 0.8
    assert with_it - mean(external=False) > 0.1


def test_views_alone_say_nothing(tmp_path: Path) -> None:
    assert 0.35 < learned("bpr_mf", {"d": 16}, clicks_among_views(tmp_path / "snapshot"), epochs=5) < 0.65
