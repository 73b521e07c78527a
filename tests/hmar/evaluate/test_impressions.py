"""Labelled impressions judged: the right score at the right candidate, for every kind of model."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hmar.data.histories import Histories
from hmar.data.snapshot import Snapshot
from hmar.errors import ModelError
from hmar.evaluate import impressions
from hmar.evaluate.impression_metrics import auc
from hmar.evaluate.impressions import judge_impressions, summarize_impressions
from hmar.models import MODELS
from hmar.models.base import CandidateCounts, Rule, Vocabulary
from hmar.settings import Section
from tests.support.arrays import random_users, write_impressions, write_snapshot
from tests.support.untrained import untrained

SPLIT = "leave_one_out"


class Formula(Rule):
    """A score that depends on the moment, the history and the item."""

    Config = Section

    def __init__(self, snapshot: Snapshot, poisoned: int = -1) -> None:
        super().__init__(Section(), Vocabulary.of(snapshot))
        self.poisoned = poisoned

    def score(self, histories: Histories, seen: CandidateCounts, items: Tensor) -> Tensor:
        base = (histories.now // 1_000_000 + 7 * histories.lengths)[:, None]
        scores = ((base * 31 + items * 17) % 23).float()
        return scores.masked_fill((items == self.poisoned), torch.nan)

    def score_all(self, histories: Histories, seen: CandidateCounts) -> Tensor:
        return self.score(histories, seen, torch.arange(self.vocabulary.items).expand(len(histories), -1))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    users = random_users(50, 25, 3, 30, seed=3, shortest=1)
    snapshot = write_snapshot(tmp_path_factory.mktemp("shop") / "s", users, items=25, held_out=5)
    return write_impressions(snapshot, sampled=3)


@pytest.mark.parametrize("cells", [1, 40, 2**17])
def test_scores_stand_at_their_candidates(shop: Snapshot, monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(impressions, "CELLS", cells)
    for part in ("validation", "test"):
        judged = judge_impressions(Formula(shop), shop, SPLIT, part, max_length=5)  # type: ignore[arg-type]
        shown = judged.impressions
        assert len(shown) > 20
        for m in range(len(shown)):
            length = int(shown.history_end[m] - shop.offsets[shown.user[m]])
            assert judged.history_length[m] == length
            for cell in range(shown.offsets[m], shown.offsets[m + 1]):
                base = shown.time[m] // 1_000_000 + 7 * min(length, 5)
                assert judged.score[cell] == (base * 31 + shown.item[cell] * 17) % 23


@pytest.mark.parametrize("name", list(MODELS))
def test_every_kind_of_model_is_judged(shop: Snapshot, name: str) -> None:
    model = untrained(name, shop).train()
    judged = judge_impressions(model, shop, SPLIT, "test", max_length=9)
    assert model.training
    assert np.isfinite(judged.score).all()
    assert 0 <= judged.mean("auc") <= 1
    summary = summarize_impressions(judged, resamples=100)
    for metric in ("auc", "gauc", "mrr", "ndcg"):
        assert summary[f"test/impressions/all/{metric}"] == pytest.approx(judged.mean(metric))


def test_strata_are_of_the_history_before_the_moment(shop: Snapshot) -> None:
    judged = judge_impressions(Formula(shop), shop, SPLIT, "test", max_length=5)
    summary = summarize_impressions(judged, resamples=100)
    lengths = judged.history_length[judged.moment]
    of_short = (lengths >= 1) & (lengths < 6)
    assert 0 < of_short.sum() < len(lengths)
    name = "test/impressions/length_1-5"
    assert summary[f"{name}/impressions"] == of_short.sum()
    assert summary[f"{name}/positives"] == judged.impressions.label[of_short].sum()
    expected = auc(judged.impressions.label[of_short], judged.score[of_short])
    assert summary[f"{name}/auc"] == pytest.approx(expected)
    assert summary[f"{name}/auc/low"] <= expected <= summary[f"{name}/auc/high"]
    parts = [summary[f"test/impressions/{stratum}/impressions"] for stratum in impressions.IMPRESSION_STRATA[1:]]
    assert sum(parts) == summary["test/impressions/all/impressions"] == len(lengths)


def test_users_are_kept_one_by_one(shop: Snapshot) -> None:
    judged = judge_impressions(Formula(shop), shop, SPLIT, "test", max_length=5)
    rows = impressions.table(judged, shop).to_pylist()
    assert [row["user_id"] for row in rows] == [row["user"] + 1000 for row in rows]
    assert sum(row["impressions"] for row in rows) == len(judged.score)
    defined = [row for row in rows if row["auc"] is not None]
    assert all((0 < row["positives"] < row["impressions"]) == (row["auc"] is not None) for row in rows)
    assert np.mean([row["mrr"] for row in defined]) == pytest.approx(judged.mean("mrr"))
    weights = [row["impressions"] for row in defined]
    assert np.average([row["auc"] for row in defined], weights=weights) == pytest.approx(judged.mean("gauc"))


def test_nan_is_an_error(shop: Snapshot) -> None:
    with pytest.raises(ModelError, match=r"Formula scores NaN for user \d+"):
        judge_impressions(Formula(shop, poisoned=3), shop, SPLIT, "test", max_length=5)


def test_a_part_without_moments(tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path / "s", random_users(5, 9, 3, 9, shortest=3), items=9, held_out=0)
    snapshot = write_impressions(snapshot)
    judged = judge_impressions(Formula(snapshot), snapshot, SPLIT, "test", max_length=5)
    assert all(math.isnan(judged.mean(name)) for name in ("auc", "gauc", "mrr", "ndcg"))
    summary = summarize_impressions(judged)
    assert summary["test/impressions/all/impressions"] == 0
    assert "test/impressions/all/auc" not in summary
