"""Metrics, intervals and paired differences against plain Python, one number at a time."""

import math
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hmar.errors import ModelError, SettingsError
from hmar.evaluate import metrics
from hmar.evaluate.compare import paired
from hmar.evaluate.intervals import by_user, clustered, resampled_means
from hmar.evaluate.names import CUTOFFS, RANK_METRICS
from hmar.evaluate.ranking import ranks_among
from hmar.evaluate.scan import TILE, Excluded, scan
from hmar.models.catalog import Matrix

RANKS = st.one_of(st.integers(1, 40).map(float), st.just(math.inf))
OUTCOMES = st.lists(st.tuples(RANKS, RANKS, st.integers(0, 6)), min_size=1, max_size=30)


def metric_of(rank: float, name: str) -> float:
    if name == "mrr":
        return 0.0 if math.isinf(rank) else 1 / rank
    kind, cutoff = name.split("@")
    if rank > int(cutoff):
        return 0.0
    return 1.0 if kind == "hr" else 1 / math.log2(rank + 1)


@given(st.lists(RANKS, min_size=1, max_size=30), st.sampled_from(RANK_METRICS))
def test_metrics_are_the_definitions(ranks: list[float], name: str) -> None:
    found = metrics.of_ranks(np.array(ranks), name)
    np.testing.assert_allclose(found, [metric_of(rank, name) for rank in ranks], rtol=1e-12)


@given(st.lists(RANKS, min_size=1, max_size=30))
def test_metrics_lie_in_the_unit_interval_and_grow_with_the_cutoff(ranks: list[float]) -> None:
    values = {name: metrics.of_ranks(np.array(ranks), name) for name in RANK_METRICS}
    assert all(((found >= 0) & (found <= 1)).all() for found in values.values())
    for kind in ("hr", "ndcg"):
        assert (values[f"{kind}@5"] <= values[f"{kind}@10"]).all()
        assert (values[f"{kind}@10"] <= values[f"{kind}@20"]).all()
    assert (values["ndcg@10"] <= values["hr@10"]).all()


@given(st.lists(RANKS, max_size=10), st.sampled_from([math.nan, 0.0, -1.0, 0.5]), st.sampled_from(RANK_METRICS))
def test_an_impossible_rank_is_an_error_and_not_a_miss(ranks: list[float], bad: float, name: str) -> None:
    with pytest.raises(ModelError, match=rf"{name}: target {len(ranks)} has rank "):
        metrics.of_ranks(np.array([*ranks, bad, 1.0]), name)


@st.composite
def rankings(draw: st.DrawFn) -> tuple[list[list[float]], list[int]]:
    """Scores of a few users for a catalog that is mostly smaller than the cutoffs, full of ties, and their targets."""
    items = draw(st.integers(1, 26))
    level = st.sampled_from([-math.inf, -1.0, -0.0, 0.0, 1.0, 2.0, math.inf])
    rows = draw(st.lists(st.lists(level, min_size=items, max_size=items), min_size=1, max_size=6))
    return rows, [draw(st.integers(0, items - 1)) for _ in rows]


@given(rankings(), st.sampled_from(RANK_METRICS))
def test_from_scores_to_metrics_is_looking_the_target_up_in_a_sorted_list(
    ranking: tuple[list[list[float]], list[int]], name: str
) -> None:
    """The worst place among its equals is the target's; an item that scores -inf is in no list."""
    rows, targets = ranking
    scores = torch.tensor(rows)
    wanted = torch.tensor(targets)
    nothing = np.zeros(0, np.int64)
    excluded = Excluded(nothing, nothing, np.full(len(rows), scores.shape[1], np.int32))
    scanned = scan(Matrix(scores), excluded, max(CUTOFFS), TILE, wanted)
    chosen = scores.gather(1, wanted[:, None])[:, 0]
    assert torch.equal(ranks_among(scores, chosen), scanned.rank)
    found = metrics.of_ranks(scanned.rank.numpy(), name)
    lists = zip(scanned.values.tolist(), scanned.items.tolist(), strict=True)
    for row, target, got, (best, listed) in zip(rows, targets, found, lists, strict=True):
        # Stable: among equals the lower item is first.
        head = [item for item in sorted(range(len(row)), key=lambda item: -row[item]) if row[item] > -math.inf]
        head += [-1] * max(CUTOFFS)
        assert listed == head[: max(CUTOFFS)]
        assert best == [row[item] if item >= 0 else -math.inf for item in listed]
        order = sorted(range(len(row)), key=lambda item: (-row[item], item == target))
        order = [item for item in order if row[item] > -math.inf]
        gains = [1.0 if item == target else 0.0 for item in order]
        kind, cutoff = name.split("@") if "@" in name else (name, str(len(order)))
        head = gains[: int(cutoff)]
        weight = {
            "hr": lambda place: 1.0,
            "ndcg": lambda place: 1 / math.log2(place + 1),
            "mrr": lambda place: 1 / place,
        }[kind]
        assert got == pytest.approx(sum(gain * weight(place) for place, gain in enumerate(head, 1)), rel=1e-12)


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match="unknown metric 'ndgc@10'; did you mean 'ndcg@10'"):
        metrics.of_ranks(np.ones(1), "ndgc@10")


@given(OUTCOMES, st.integers(0, 1000))
def test_resampled_means_are_sums_over_the_drawn_users(outcomes: list[tuple[float, float, int]], seed: int) -> None:
    values = np.array([[metric_of(a, "mrr"), metric_of(b, "hr@10")] for a, b, _ in outcomes])
    users = np.array([user for _, _, user in outcomes])
    sums, counts = by_user(values, users)
    targets_of: dict[int, list[int]] = defaultdict(list)
    for place, user in enumerate(users.tolist()):
        targets_of[user].append(place)
    known = sorted(targets_of)
    assert len(counts) == len(known)
    drawn = np.random.default_rng(seed).integers(0, len(known), (5, len(known)))
    found = resampled_means(sums, counts, drawn)
    for sample in range(5):
        picked = [place for user in drawn[sample] for place in targets_of[known[user]]]
        for column in range(2):
            expected = sum(values[place, column] for place in picked) / len(picked)
            assert found[column, sample] == pytest.approx(expected, abs=1e-12)


@given(OUTCOMES, st.sampled_from(RANK_METRICS))
def test_a_paired_gain_is_the_mean_of_the_differences(outcomes: list[tuple[float, float, int]], name: str) -> None:
    a, b = (_rows([one[place] for one in outcomes], [one[2] for one in outcomes]) for place in (0, 1))
    comparison = paired(a, b, name, resamples=200)
    expected = sum(metric_of(two, name) - metric_of(one, name) for one, two, _ in outcomes) / len(outcomes)
    assert comparison.gain == pytest.approx(expected, abs=1e-12)
    assert comparison.gain == pytest.approx(comparison.mean_b - comparison.mean_a, abs=1e-12)
    assert comparison.targets == len(outcomes)
    assert comparison.users == len({user for _, _, user in outcomes})
    back = paired(b, a, name, resamples=200)
    if comparison.users > 1:
        assert comparison.low <= comparison.high
        assert back.low == pytest.approx(-comparison.high, abs=1e-9)
        assert back.high == pytest.approx(-comparison.low, abs=1e-9)
    else:
        assert math.isnan(comparison.low)
        assert math.isnan(comparison.high)


@given(OUTCOMES)
def test_a_model_compared_with_itself_gains_exactly_nothing(outcomes: list[tuple[float, float, int]]) -> None:
    rows = _rows([one[0] for one in outcomes], [one[2] for one in outcomes])
    comparison = paired(rows, rows, resamples=100)
    assert comparison.gain == 0
    if comparison.users > 1:
        assert (comparison.low, comparison.high) == (0, 0)


@given(OUTCOMES)
def test_an_interval_stays_within_the_values(outcomes: list[tuple[float, float, int]]) -> None:
    values = np.array([[metric_of(a, "ndcg@10")] for a, _, _ in outcomes])
    interval = clustered(values, np.array([user for _, _, user in outcomes]), resamples=100)
    if interval.users > 1:
        assert values.min() - 1e-12 <= interval.low[0] <= interval.high[0] <= values.max() + 1e-12


def _rows(ranks: list[float], users: list[int]) -> pa.Table:
    count = len(ranks)
    return pa.table(
        {
            "target": list(range(count)),
            "user": users,
            "item": [0] * count,
            "rank_full": pa.array([None if math.isinf(rank) else int(rank) for rank in ranks], pa.int32()),
        }
    )
