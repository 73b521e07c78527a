"""What a leak is worth: the published row less the row without it, paired over users, with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

METRICS = ("hr@10", "ndcg@10")
STRATA = ("all", "repeat", "new")
KINDS = ("sampled", "full")


class Outcomes:
    """The ranks that the trainings of one row gave the same targets.

    Attributes:
        user: int32 [N], dense ids. key: str [N], user and item as the source has them, by which the rows of a dataset
            find their common targets: a user has one target.
        repeat: bool [N].
    """

    def __init__(self, tables: Sequence[pa.Table]) -> None:
        """
        Args:
            tables: one per seed, :mod:`hmar.evaluate.per_target`.
        """
        self._tables = tables
        first = tables[0]
        self.user: NDArray[np.int32] = first.column("user").to_numpy()
        self.repeat: NDArray[np.bool_] = first.column("repeat").to_numpy()
        who, what = (first.column(name).to_pylist() for name in ("user_id", "item_id"))
        self.key = np.array([f"{user}\t{item}" for user, item in zip(who, what, strict=True)])

    def values(self, kind: str, metric: str) -> NDArray[np.float64]:
        """The metric by seed and target, float64 [S, N]."""
        from hmar.evaluate import metrics, per_target

        return np.stack([metrics.of_ranks(per_target.ranks(table, kind), metric) for table in self._tables])

    def stratum(self, name: str) -> NDArray[np.bool_]:
        """bool [N]."""
        return {"all": np.ones(len(self.user), bool), "repeat": self.repeat, "new": ~self.repeat}[name]


def prices(
    row: Outcomes, published: Outcomes, confidence: float, resamples: int, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """By ``<candidates>/<stratum>/<metric>``: mean, sd (over seeds), low, high (interval over users of the mean over
    seeds), price with price_low and price_high (paired), price_sd (over seeds, paired), targets, shared.

    A stratum is that of the row's own targets; one without targets has nothing but its counts, and so has a price
    without shared targets.
    """
    found = {}
    here, there = _shared(row, published)
    for stratum in STRATA:
        chosen = row.stratum(stratum)
        both = chosen[here]
        for kind in KINDS:
            for metric in METRICS:
                values, other = row.values(kind, metric), published.values(kind, metric)
                gap = other[:, there[both]] - values[:, here[both]]
                found[f"{kind}/{stratum}/{metric}"] = {
                    "targets": int(chosen.sum()),
                    "shared": int(both.sum()),
                    **_mean("", values[:, chosen], row.user[chosen], confidence, resamples, seed),
                    **_mean("price", gap, row.user[here[both]], confidence, resamples, seed),
                }
    return found


def means(rule: Outcomes) -> dict[str, float | None]:
    """The same names for a rule, which depends on no seed."""
    return {
        f"{kind}/{stratum}/{metric}": float(rule.values(kind, metric)[0, chosen].mean()) if chosen.any() else None
        for stratum in STRATA
        for kind in KINDS
        for metric in METRICS
        for chosen in [rule.stratum(stratum)]
    }


def _mean(
    name: str, values: NDArray[np.float64], users: NDArray[np.int32], confidence: float, resamples: int, seed: int
) -> Mapping[str, float | None]:
    """Mean over seeds and targets of values [S, N], its deviation over seeds and its interval over users."""
    from hmar.evaluate.intervals import clustered

    prefix = f"{name}_" if name else ""
    if not values.size:
        return {name or "mean": None, f"{prefix}sd": None, f"{prefix}low": None, f"{prefix}high": None}
    interval = clustered(values.mean(axis=0)[:, None], users, confidence, resamples, seed)
    per_seed = values.mean(axis=1)
    return {
        name or "mean": float(interval.mean[0]),
        f"{prefix}sd": float(per_seed.std(ddof=1)) if len(per_seed) > 1 else None,
        f"{prefix}low": float(interval.low[0]) if interval.users > 1 else None,
        f"{prefix}high": float(interval.high[0]) if interval.users > 1 else None,
    }


def _shared(row: Outcomes, published: Outcomes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the targets that both have stand in each, int64 [P]."""
    _, here, there = np.intersect1d(row.key, published.key, assume_unique=True, return_indices=True)
    return here, there
