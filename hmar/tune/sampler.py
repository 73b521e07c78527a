"""What is tried next: a tree-structured Parzen estimator whose draws depend on the study and the trial, not on the past
of a process.

Optuna's samplers carry one random state through all trials, so a study that is continued by another process proposes
other values than one that was never interrupted. Here each draw has a seed of its own.
"""

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler, TPESampler

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

STARTUP = 10
"""Trials that are drawn at random before the estimator has a say."""


class SeededTPE(BaseSampler):
    """Multivariate TPE (Watanabe, arXiv 2304.11127; Bergstra et al., NeurIPS 2011): all dimensions are drawn together,
    and trials that still run count as bad, so that trials at the same time are not the same.

    Args:
        seed: of the study; with the trial's number, and the name of a dimension that is drawn alone, it makes the seed
            of a draw.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def infer_relative_search_space(self, study: "Study", trial: "FrozenTrial") -> "dict[str, BaseDistribution]":
        return self._tpe(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: "Study", trial: "FrozenTrial", search_space: "dict[str, BaseDistribution]"
    ) -> dict[str, Any]:
        return self._tpe(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: "Study", trial: "FrozenTrial", param_name: str, param_distribution: "BaseDistribution"
    ) -> Any:
        return self._tpe(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    def _tpe(self, trial: "FrozenTrial", name: str = "") -> TPESampler:
        words = [self.seed, trial.number, zlib.crc32(name.encode())]
        seed = int(np.random.SeedSequence(words).generate_state(1)[0])
        return TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=STARTUP)
