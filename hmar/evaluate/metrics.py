"""Metrics of ranked lists with one relevant item: every one is a function of that item's rank.

With rank r (1 is best, inf a miss): HR@K = 1[r <= K], NDCG@K = 1[r <= K] / log2(r + 1) since the ideal gain is 1,
MRR = 1 / r.
"""

import numpy as np
from numpy.typing import NDArray

from hmar.errors import ModelError, SettingsError
from hmar.evaluate.names import RANK_METRICS
from hmar.settings import nearest


def of_ranks(ranks: NDArray[np.float64], metric: str) -> NDArray[np.float64]:
    """The metric's value per target, float64 [N], for ranks float64 [N].

    Raises:
        SettingsError: not one of ``names.RANK_METRICS``. ModelError: a rank is NaN or below 1.
    """
    if metric not in RANK_METRICS:
        raise SettingsError(f"unknown metric {metric!r}{nearest(metric, list(RANK_METRICS))}")
    impossible = np.flatnonzero(~(ranks >= 1))
    if len(impossible):
        raise ModelError(
            f"{metric}: target {impossible[0]} has rank {ranks[impossible[0]]}, and ranks start at 1; "
            "whoever made it let NaN scores through"
        )
    if metric == "mrr":
        return 1.0 / ranks
    kind, cutoff = metric.split("@")
    hit = ranks <= int(cutoff)
    return hit.astype(np.float64) if kind == "hr" else np.where(hit, 1.0 / np.log2(ranks + 1.0), 0.0)


def coverage(top: NDArray[np.int32], cutoff: int, catalog: int) -> float:
    """Share of the ``catalog`` items that stand in the first ``cutoff`` places of any list; top is int32 [N, K]."""
    shown = np.unique(top[:, :cutoff])
    return float((shown >= 0).sum() / catalog) if catalog else float("nan")


def popularity_percentile(top: NDArray[np.int32], cutoff: int, percentile: NDArray[np.float64]) -> float:
    """Mean over lists of the mean percentile (float64 [V], 1 is the most popular) of their first ``cutoff`` items."""
    listed = top[:, :cutoff]
    real = listed >= 0
    per_list = np.where(real, percentile[np.maximum(listed, 0)], 0.0).sum(axis=1)
    filled = real.any(axis=1)
    return float((per_list[filled] / real[filled].sum(axis=1)).mean()) if filled.any() else float("nan")


def percentiles(counts: NDArray[np.floating]) -> NDArray[np.float64]:
    """Of each count among all, [V]: its rank from the smallest, the mean one where several are equal, by V."""
    _, of, times = np.unique(counts, return_inverse=True, return_counts=True)
    percentile: NDArray[np.float64] = (np.cumsum(times) - (times - 1) / 2)[of] / len(counts)
    return percentile
