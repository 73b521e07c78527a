"""Cutting bad trials short: the pruner, and what feeds it while a training runs."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hmar.tune.settings import PruningSettings

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.trial import Trial

REDUCTION = 3
"""Of successive halving: one trial of so many goes on, for so many times its epochs."""


def make_pruner(settings: PruningSettings, max_epochs: int) -> "BasePruner":
    """The pruner. A step is an epoch, 1-based.

    median: Golovin et al., KDD 2017, section 3.2. halving: Li et al., arXiv 1810.05934. hyperband: Li et al., JMLR
    2018.
    """
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

    first = max(1, settings.warmup + 1)
    if settings.kind == "median":
        return MedianPruner(n_startup_trials=settings.startup, n_warmup_steps=first)
    if settings.kind == "halving":
        return SuccessiveHalvingPruner(min_resource=first, reduction_factor=REDUCTION)
    if settings.kind == "hyperband":
        return HyperbandPruner(min_resource=first, max_resource=max(max_epochs, first), reduction_factor=REDUCTION)
    return NopPruner()


class Watch:
    """Reads the history of a training as it grows. Called, it tells whether the training should be cut short.

    The verdict on an epoch depends on what was reported up to that epoch and on the other trials, not on when anybody
    looks: a training that ran on meanwhile is cut at the same epoch.

    Args:
        trial: what is reported to. history: the training's history.json, which need not be there yet.
        metric: the one of the validation metrics that chooses. guarded: around every access to the study.
    """

    def __init__(
        self,
        trial: "Trial",
        history: Path,
        metric: str,
        guarded: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.trial, self.history, self.metric, self.guarded = trial, history, metric, guarded
        self.pruned = False
        self._read_at = 0
        # A call that was killed may have reported an epoch and not come to its verdict.
        self._judged = max(self._reported(), default=0) - 1

    def __call__(self) -> bool:
        if self.pruned:
            return True
        try:
            changed = self.history.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        if changed == self._read_at:
            return False
        self._read_at = changed
        with self.guarded():
            self._follow()
        return self.pruned

    def _follow(self) -> None:
        for row in self._rows():
            epoch = int(row["epoch"])
            if epoch <= self._judged:
                continue
            self._judged = epoch
            if epoch not in self._reported():
                self.trial.report(float(row["validation"][self.metric]), epoch)
            if self.trial.should_prune():
                self.pruned = True
                return

    def _rows(self) -> list[dict[str, Any]]:
        rows = json.loads(self.history.read_text(encoding="utf-8"))
        return [row for row in rows if row["validation"] is not None]

    def _reported(self) -> set[int]:
        # Trial itself does not show what was reported; the study's record of it does.
        found = self.trial.study.get_trials(deepcopy=False)[self.trial.number]
        return set(found.intermediate_values)
