"""What a training tells MLflow, and when: a row per epoch, none twice, none lost to a server that was away."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from hmar.errors import ServiceError
from hmar.evaluate.names import tracked
from hmar.tracking.run import Point, TrackedRun

RETRY_SECONDS = 60
"""How long a store that did not answer is left alone."""

_WITNESS = "train/loss"
"""In the same request as all other values of its epoch: where it is logged, they are."""


class EpochLog:
    """Keeps an MLflow run level with the history of the training, which is the buffer."""

    def __init__(self, run: TrackedRun, warn: Callable[[str], None], judged: str = "train/validation") -> None:
        """
        Args:
            judged: what the names of the metrics that choose the epoch begin with.
        """
        self.run, self.warn, self.judged = run, warn, judged
        self._logged: set[int] | None = None
        self._away_since: float | None = None

    def follow(self, history: list[dict[str, Any]]) -> None:
        """Log the rows that are not logged yet; while the store is away, only try now and then."""
        now = time.monotonic()
        if self._away_since is not None and now - self._away_since < RETRY_SECONDS:
            return
        try:
            self.flush(history)
        except ServiceError as error:
            if self._away_since is None:
                self.warn(f"{error}; training goes on, its metrics are kept and logged later")
            self._away_since = now

    def flush(self, history: list[dict[str, Any]]) -> None:
        """Log every row that is not logged yet.

        Raises:
            ServiceError: the store does not answer; nothing is lost.
        """
        logged, self._logged = self._logged, None  # unknown, should the request below fail after it arrived
        if logged is None:
            self.run.check()
            logged = self.run.steps_of(_WITNESS)
        for row in history:
            if row["epoch"] not in logged:
                self.run.log_metrics(points(row, self.judged))
                logged.add(row["epoch"])
        self._logged, self._away_since = logged, None


def points(row: Mapping[str, Any], judged: str = "train/validation") -> list[Point]:
    """The metrics of one epoch."""
    values = {
        _WITNESS: row["loss"],
        "train/seconds": row["seconds"],
        "train/tokens_per_second": row["tokens"] / max(row["seconds"], 1e-9),
        "system/memory_mb": row["memory_mb"],
    }
    if row["validation"] is not None:
        values |= {f"{judged}/{tracked(name)}": value for name, value in row["validation"].items()}
        values["train/validation_seconds"] = row["validation_seconds"]
    return [Point(name, value, row["epoch"], row["at"]) for name, value in values.items()]
