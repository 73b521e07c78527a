"""The clustered bootstrap: reproducible, wider where targets of a user agree, and covering what it says it covers."""

import numpy as np
import pytest

from hmar.evaluate.intervals import by_user, clustered


def test_the_mean_is_over_targets_not_over_users() -> None:
    values = np.array([[1.0], [0.0], [0.0], [0.0]])
    interval = clustered(values, np.array([4, 9, 9, 9]))
    assert interval.mean.tolist() == [0.25]
    assert interval.users == 2


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(0)
    values, users = rng.random((50, 3)), rng.integers(0, 20, 50)
    first, again, other = (clustered(values, users, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.low, again.low)
    assert (first.low != other.low).any()


def test_the_order_of_targets_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    values, users = rng.random((50, 2)), rng.integers(0, 20, 50)
    order = rng.permutation(50)
    first, shuffled = clustered(values, users), clustered(values[order], users[order])
    np.testing.assert_allclose(first.low, shuffled.low)
    np.testing.assert_allclose(first.high, shuffled.high)


def test_agreeing_targets_of_one_user_count_once() -> None:
    """Fifty users with twenty equal targets each are as uncertain as fifty users, not as a thousand."""
    rng = np.random.default_rng(0)
    per_user = rng.random(50)
    values = np.repeat(per_user, 20)[:, None]
    by_user = clustered(values, np.repeat(np.arange(50), 20))
    as_if_free = clustered(values, np.arange(1000))
    alone = clustered(per_user[:, None], np.arange(50))
    width = (by_user.high - by_user.low)[0]
    assert width == pytest.approx((alone.high - alone.low)[0], rel=0.1)
    assert width > 3 * (as_if_free.high - as_if_free.low)[0]


def test_one_user_has_no_interval() -> None:
    interval = clustered(np.array([[1.0], [0.0]]), np.array([3, 3]))
    assert interval.mean.tolist() == [0.5]
    assert np.isnan(interval.low).all()
    assert np.isnan(interval.high).all()


def test_small_batches_give_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    values, users = np.random.default_rng(0).random((30, 2)), np.arange(30)
    whole = clustered(values, users)
    monkeypatch.setattr("hmar.evaluate.intervals.BATCH", 64)
    batched = clustered(values, users)
    np.testing.assert_allclose(batched.low, whole.low, rtol=1e-12)


@pytest.mark.slow
def test_ninety_five_percent_of_the_intervals_hold_the_truth() -> None:
    """Users with 1 to 5 targets and a taste of their own; the true mean over targets is 0.3 by construction."""
    rng = np.random.default_rng(7)
    hits = 0
    for seed in range(400):
        counts = rng.integers(1, 6, 150)
        taste = rng.beta(3, 7, 150)
        users = np.repeat(np.arange(150), counts)
        values = (rng.random(len(users)) < taste[users]).astype(float)[:, None]
        interval = clustered(values, users, resamples=500, seed=seed)
        hits += int(interval.low[0] <= 0.3 <= interval.high[0])
    assert 0.91 <= hits / 400 <= 0.98


def test_the_bounds_are_those_of_scipy() -> None:
    from scipy.stats import bootstrap

    rng = np.random.default_rng(0)
    values, users = rng.random((200, 2)), rng.integers(0, 40, 200)
    sums, counts = by_user(values, users)
    found = clustered(values, users, confidence=0.9, resamples=500, seed=3)
    for column in range(2):
        expected = bootstrap(
            (sums[:, column], counts),
            lambda s, n, axis: s.sum(axis=axis) / n.sum(axis=axis),
            n_resamples=500, paired=True, confidence_level=0.9, method="percentile", rng=np.random.default_rng(3),
        ).confidence_interval  # fmt: skip
        assert found.low[column] == pytest.approx(expected.low, rel=1e-12)
        assert found.high[column] == pytest.approx(expected.high, rel=1e-12)
