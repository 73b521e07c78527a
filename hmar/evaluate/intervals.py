"""Bootstrap intervals with users as the unit: a user's targets are drawn together or not at all.

With v_i the value of target i and n_u the number of user u's targets, the mean over targets is the ratio
sum_u (sum_{i of u} v_i) / sum_u n_u, and users are resampled in numerator and denominator alike.

``scipy.stats.bootstrap`` makes the same of the same draws (tests/hmar/evaluate/test_intervals.py); importing it takes
seconds of every process that judges a model, more than all the drawing.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BATCH = 2_000_000
"""Draws held at once."""


@dataclass(frozen=True)
class Interval:
    """Means over targets with their bounds, float64 [C] each; the bounds are NaN where there are fewer than 2 users."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    users: int


def clustered(
    values: NDArray[np.float64],
    users: NDArray[np.integer],
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of the column means of ``values``, float64 [N, C], clustered by ``users``, int [N].

    All columns see the same resamples: drawing costs once, each further column one matrix product.

    Raises:
        ValueError: no targets.
    """
    if len(values) == 0:
        raise ValueError("no targets to average")
    return of_sums(*by_user(values, users), confidence, resamples, seed)


def of_sums(
    sums: NDArray[np.float64],
    counts: NDArray[np.float64],
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """The same from what each user adds to numerator and denominator, float64 [U, C] and [U]."""
    mean = sums.sum(axis=0) / counts.sum()
    if len(counts) < 2:
        missing = np.full(sums.shape[1], np.nan)
        return Interval(mean, missing, missing, len(counts))

    rng, width = np.random.default_rng(seed), len(counts)
    step = max(1, BATCH // width)
    means = np.concatenate(
        [
            resampled_means(sums, counts, rng.integers(0, width, (min(step, resamples - done), width)))
            for done in range(0, resamples, step)
        ],
        axis=1,
    )
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)
    return Interval(mean, low, high, width)


def by_user(values: NDArray[np.float64], users: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of values per user, float64 [U, C], and numbers of targets per user, float64 [U], in order of user id."""
    order = np.argsort(users, kind="stable")
    first = np.flatnonzero(np.diff(users[order], prepend=users[order[0]] - 1))
    counts = np.diff(first, append=len(users)).astype(np.float64)
    return np.add.reduceat(values[order], first, axis=0), counts


def resampled_means(
    sums: NDArray[np.float64], counts: NDArray[np.float64], drawn: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The ratio for each resample of users: float64 [C, S] for drawn int64 [S, U], sums [U, C] and counts [U]."""
    samples, width = drawn.shape
    flat = (drawn + width * np.arange(samples)[:, None]).ravel()
    times = np.bincount(flat, minlength=samples * width).reshape(samples, width).astype(np.float64)
    means: NDArray[np.float64] = (times @ sums).T / (times @ counts)
    return means
