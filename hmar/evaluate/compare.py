"""Two models on the same targets: is one better, and how sure is that?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hmar.errors import DataError
from hmar.evaluate import metrics, per_target
from hmar.evaluate.intervals import clustered
from hmar.evaluate.names import HEADLINE


@dataclass(frozen=True)
class Comparison:
    """The paired difference of a metric's mean, b - a, with its bootstrap interval over users.

    ``low`` and ``high`` are NaN where there are fewer than two users: nothing can be said then.
    """

    metric: str
    candidates: str
    mean_a: float
    mean_b: float
    gain: float
    low: float
    high: float
    confidence: float
    targets: int
    users: int


def paired(
    a: pa.Table | Path,
    b: pa.Table | Path,
    metric: str = HEADLINE,
    *,
    candidates: str = "full",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare ``b`` (the challenger) with ``a`` (the champion): per-target outcomes or the paths they lie at.

    Raises:
        DataError: the two were not judged on the same targets, or there are none.
        SettingsError: unknown metric.
    """
    rows_a, rows_b = (rows if isinstance(rows, pa.Table) else per_target.read(Path(rows)) for rows in (a, b))
    _refuse_other_targets(rows_a, rows_b, _name(a), _name(b))
    value_a, value_b = (_values(rows, metric, candidates) for rows in (rows_a, rows_b))
    users = rows_a.column("user").to_numpy()
    interval = clustered((value_b - value_a)[:, None], users, confidence, resamples, seed)
    return Comparison(
        metric=metric,
        candidates=candidates,
        mean_a=float(value_a.mean()),
        mean_b=float(value_b.mean()),
        gain=float(interval.mean[0]),
        low=float(interval.low[0]),
        high=float(interval.high[0]),
        confidence=confidence,
        targets=len(users),
        users=interval.users,
    )


def _values(rows: pa.Table, metric: str, candidates: str) -> NDArray[np.float64]:
    return metrics.of_ranks(per_target.ranks(rows, candidates), metric)


def _refuse_other_targets(a: pa.Table, b: pa.Table, name_a: str, name_b: str) -> None:
    about_a, about_b = ((rows.schema.metadata or {}) for rows in (a, b))
    for key in ("snapshot", "split", "part"):
        of_a, of_b = (about.get(key.encode(), b"none").decode() for about in (about_a, about_b))
        if of_a != of_b:
            raise DataError(
                f"{name_a} and {name_b} differ in {key} ({of_a}, {of_b}); "
                "judge both models on the same snapshot and split"
            )
    if len(a) == 0 and len(b) == 0:
        raise DataError(f"{name_a}: no targets, so nothing can be compared; the snapshot's split is empty")
    for key in ("target", "user", "item"):
        if not a.column(key).equals(b.column(key)):
            raise DataError(f"{name_a} and {name_b} hold different targets (column {key}); judge both models again")


def _name(rows: Any) -> str:
    return "a table in memory" if isinstance(rows, pa.Table) else str(rows)
