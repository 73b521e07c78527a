"""The summary: every stratum counted, every mean recomputed by hand from the ranks."""

from pathlib import Path

import numpy as np
import pytest

from hmar.data.snapshot import Snapshot
from hmar.evaluate.judge import Judgement, judge
from hmar.evaluate.metrics import coverage, percentiles, popularity_percentile
from hmar.evaluate.names import LENGTH_STRATA
from hmar.evaluate.strata import strata
from hmar.evaluate.summary import summarize
from tests.support.judging import SPLIT, Scripted, case, script


@pytest.fixture
def judged(tmp_path: Path) -> tuple[Judgement, Snapshot]:
    snapshot = case(tmp_path / "snapshot", 11, users=30, items=40, longest=25)
    return judge(Scripted(snapshot, script(snapshot, 0)), snapshot, SPLIT, "test", max_length=5), snapshot


def test_strata_cut_the_targets_as_named(judged: tuple[Judgement, Snapshot]) -> None:
    judgement, snapshot = judged
    found = strata(judgement)
    targets = judgement.targets
    for place in range(len(targets)):
        start = snapshot.offsets[targets.user[place]]
        past = snapshot.item[start : targets.history_end[place]].tolist()
        length = len(past)
        expected = "cold_user" if length == 0 else next(
            name for name, low, high in _edges() if low <= length <= high
        )  # fmt: skip
        inside = {name for name in (*LENGTH_STRATA, "cold_user") if found[name][place]}
        assert inside == {expected}
        assert found["repeat"][place] == (int(targets.item[place]) in past) != found["new"][place]


def _edges() -> list[tuple[str, float, float]]:
    named = [name.removeprefix("length_").split("-") for name in LENGTH_STRATA]
    return [
        (name, float(low), float("inf") if high == "up" else float(high))
        for name, (low, high) in zip(LENGTH_STRATA, named, strict=True)
    ]


def test_means_counts_and_bounds(judged: tuple[Judgement, Snapshot]) -> None:
    judgement, snapshot = judged
    summary = summarize(judgement, snapshot, resamples=200)
    for stratum, chosen in strata(judgement).items():
        name = f"test/full/{stratum}"
        assert summary[f"{name}/targets"] == chosen.sum()
        assert summary[f"{name}/users"] == len(set(judgement.targets.user[chosen].tolist()))
        if not chosen.any():
            assert f"{name}/mrr" not in summary
            continue
        assert summary[f"{name}/hr@10"] == pytest.approx((judgement.rank_full[chosen] <= 10).mean())
        assert summary[f"test/sampled/{stratum}/mrr"] == pytest.approx((1 / judgement.ranks["sampled"][chosen]).mean())
        if summary[f"{name}/users"] > 1:
            assert summary[f"{name}/mrr/low"] <= summary[f"{name}/mrr"] <= summary[f"{name}/mrr/high"]
    assert summary["test/full/all/ndcg@10"] == pytest.approx(judgement.mean("ndcg@10"))
    assert all(np.isfinite(value) for value in summary.values())


def test_lists(judged: tuple[Judgement, Snapshot]) -> None:
    judgement, snapshot = judged
    summary = summarize(judgement, snapshot, resamples=100)
    shown = {int(item) for row in judgement.top[:, :10] for item in row if item >= 0}
    assert summary["test/full/all/coverage@10"] == len(shown) / judgement.targets.catalog.max()
    assert 0 < summary["test/full/all/popularity_percentile@20"] < 1
    assert not any(name.startswith("test/sampled/all/coverage") for name in summary)


def test_coverage_and_popularity_by_hand() -> None:
    top = np.array([[2, 0, -1], [2, 1, 3], [-1, -1, -1]], np.int32)
    assert coverage(top, 1, 4) == 0.25
    assert coverage(top, 3, 4) == 1.0
    percentile = np.array([0.25, 0.5, 0.75, 1.0])
    assert popularity_percentile(top, 2, percentile) == pytest.approx(((0.75 + 0.25) / 2 + (0.75 + 0.5) / 2) / 2)


def test_percentiles_are_mean_ranks() -> None:
    from scipy.stats import rankdata

    counts = np.random.default_rng(0).integers(0, 9, 50).astype(np.float32)
    np.testing.assert_array_equal(percentiles(counts), rankdata(counts) / 50)
