"""Every metric against its definition, pair by pair and place by place; ties in scores are the rule."""

import math

import numpy as np
import pytest

from hmar.evaluate.impression_metrics import auc, auc_parts, gauc, of_users
from hmar.evaluate.intervals import clustered


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 60))
    score = rng.integers(0, 6, count).astype(np.float64)
    score[rng.random(count) < 0.1] = -np.inf
    return rng.integers(0, 8, count), (rng.random(count) < 0.4).astype(np.uint8), score


def slow_auc(label: list[int], score: list[float]) -> float:
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, yes in zip(score, label, strict=True)
        for b, no in zip(score, label, strict=True)
        if yes and not no
    ]
    return sum(pairs) / len(pairs) if pairs else math.nan


def slow_list(label: list[int], score: list[float]) -> tuple[float, float]:
    """MRR and NDCG of a list in which, among equal scores, negatives stand first."""
    ranked = [yes for _, yes in sorted(zip(score, label, strict=True), key=lambda pair: (-pair[0], pair[1]))]
    ranks = [place for place, yes in enumerate(ranked, 1) if yes]
    gain = sum(1 / math.log2(rank + 1) for rank in ranks)
    return 1 / ranks[0], gain / sum(1 / math.log2(place + 1) for place in range(1, len(ranks) + 1))


@pytest.mark.parametrize("seed", range(40))
def test_the_definitions(seed: int) -> None:
    user, label, score = drawn(seed)
    values = of_users(user, label, score)
    np.testing.assert_allclose(auc(label, score), slow_auc(label.tolist(), score.tolist()), rtol=1e-12)
    assert values.user.tolist() == sorted(set(user.tolist()))
    weighted = []
    for place, one in enumerate(values.user):
        own = user == one
        of = label[own].tolist(), score[own].tolist()
        assert (values.impressions[place], values.positives[place]) == (len(of[0]), sum(of[0]))
        assert (values.of[own] == place).all()
        if len(set(of[0])) < 2:
            assert not values.judged[place]
            assert np.isnan([values.auc[place], values.mrr[place], values.ndcg[place]]).all()
            continue
        expected = (slow_auc(*of), *slow_list(*of))
        np.testing.assert_allclose([values.auc[place], values.mrr[place], values.ndcg[place]], expected, rtol=1e-12)
        weighted += [expected[0]] * len(of[0])
    np.testing.assert_allclose(gauc(values), np.mean(weighted) if weighted else math.nan, rtol=1e-12)


def test_the_order_of_impressions_changes_nothing() -> None:
    user, label, score = drawn(7)
    order = np.random.default_rng(0).permutation(len(user))
    one, other = of_users(user, label, score), of_users(user[order], label[order], score[order])
    for name in ("auc", "mrr", "ndcg"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_nothing_to_compare() -> None:
    nothing = np.zeros(0)
    assert math.isnan(auc(nothing.astype(np.uint8), nothing))
    assert len(of_users(nothing.astype(np.int64), nothing.astype(np.uint8), nothing).user) == 0
    assert math.isnan(gauc(of_users(np.array([1, 1]), np.array([1, 1]), np.array([0.1, 0.2]))))


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_of_the_auc_is_that_of_resampled_users(seed: int) -> None:
    """First order against the thing itself: users drawn with replacement, the AUC of all their impressions."""
    rng = np.random.default_rng(seed)
    users = 200
    user = np.repeat(np.arange(users), rng.integers(1, 8, users))
    label = (rng.random(len(user)) < 0.5).astype(np.uint8)
    score = label * 0.7 + rng.normal(size=len(user)) + rng.normal(size=users)[user]
    parts = auc_parts(label, score)
    np.testing.assert_allclose(parts.mean(), auc(label, score), rtol=1e-12)
    interval = clustered(parts[:, None], user, resamples=1000)
    own = [np.flatnonzero(user == one) for one in range(users)]
    resampled = []
    for _ in range(400):
        rows = np.concatenate([own[one] for one in rng.integers(0, users, users)])
        resampled.append(auc(label[rows], score[rows]))
    low, high = np.quantile(resampled, [0.025, 0.975])
    width = high - low
    assert abs(interval.low[0] - low) < 0.2 * width
    assert abs(interval.high[0] - high) < 0.2 * width
