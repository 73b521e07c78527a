"""What each space looks at on average, against a count in plain Python, and in a log that says what it must be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hmar.data.impressions import ImpressionData
from hmar.data.snapshot import Snapshot
from hmar.explain.looks import looks
from hmar.explain.spaces import DAYS, mean_attention, picture
from hmar.layers.attention_weights import Attention
from hmar.layers.event_inputs import BUCKETS
from hmar.losses import loss_function, total_loss
from hmar.models.base import Recommender
from hmar.models.ranker import Ranker
from tests.support.models import build
from tests.support.planted import time_gaps

SPLIT = "leave_one_out"


@pytest.fixture(scope="module")
def gaps(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return time_gaps(tmp_path_factory.mktemp("gaps") / "snapshot", users=300)


def by_hand(model: Recommender, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Attention]]:
    """Everything that the model is asked to look at."""
    seen: list[tuple[Any, Attention]] = []
    looks_at = model.looks_at

    def noted(history: Any, counts: Any, items: Any) -> dict[str, Attention]:
        found = looks_at(history, counts, items)
        seen.extend((history, one) for one in (found["blocks.0"],))
        return found

    monkeypatch.setattr(model, "looks_at", noted)
    return seen


def test_means_are_what_they_are_by_hand(gaps: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("atrank", {"d": 8, "spaces": 2}, gaps)
    looked = by_hand(model, gaps, monkeypatch)
    found = mean_attention(looks(model, gaps, SPLIT, "validation", max_length=9, moments=12), gaps.behaviors)
    assert list(found) == ["blocks.0", "attention"]
    assert len(looked) == 12
    cells: dict[tuple[int, int], list[list[float]]] = {}
    for history, attention in looked:
        for place in range(len(history.item)):
            days = float(history.now[0] - history.time[place]) / 86_400_000_000
            bucket = max(b for b in range(BUCKETS) if days >= DAYS[b])
            share = [float(one[:, place].mean()) * len(history.item) for one in attention.weights]
            cells.setdefault((int(history.behavior[place]), bucket), []).append(share)
    one = found["blocks.0"]
    assert one.events.sum() == 12 * 9
    for behavior in range(3):
        for bucket in range(BUCKETS):
            own = cells.get((behavior, bucket), [])
            assert one.events[behavior, bucket] == len(own)
            expected = np.mean(own, axis=0) if own else [np.nan, np.nan]
            np.testing.assert_allclose(one.weight[:, behavior, bucket], expected, rtol=1e-5)


@pytest.mark.slow
def test_a_space_looks_where_the_answer_is(gaps: Snapshot, tmp_path: Path) -> None:
    """At what was viewed 16 to 40 days ago: buckets 4 (15 days) and 5 (31 days)."""
    model = build("atrank", {"d": 32}, gaps)
    assert isinstance(model, Ranker)
    data = ImpressionData(gaps, SPLIT, max_length=20, batch_size=50)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model.train()
    for epoch in range(15):
        for batch in data.batches(epoch):
            optimizer.zero_grad()
            total_loss(model, loss_function("log_loss"), batch).backward()
            optimizer.step()
    model.eval()
    found = mean_attention(looks(model, gaps, SPLIT, "validation", max_length=20, moments=100), gaps.behaviors)
    views = found["attention"].weight[:, 0]
    assert np.nanmax(views[:, 4:6].mean(1) / np.nanmean(np.delete(views, (4, 5), 1), axis=1)) > 2
    picture(found, "gaps").savefig(tmp_path / "spaces.png")
    assert (tmp_path / "spaces.png").stat().st_size > 0


def test_without_a_history_there_is_nothing_to_see(gaps: Snapshot) -> None:
    model = build("atrank", {"d": 8, "spaces": 2}, gaps)
    assert list(looks(model, gaps, SPLIT, "test", max_length=20, moments=9)) == []
