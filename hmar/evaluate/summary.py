"""A judgement as numbers: every metric in every stratum under both kinds of candidates, with intervals."""

import numpy as np

from hmar.data.counting import popularity
from hmar.data.snapshot import Snapshot
from hmar.evaluate import metrics
from hmar.evaluate.intervals import clustered
from hmar.evaluate.judge import Judgement
from hmar.evaluate.names import LIST_CUTOFFS, RANK_METRICS, full_name
from hmar.evaluate.strata import strata


def summarize(
    judgement: Judgement, snapshot: Snapshot, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> dict[str, float]:
    """All metrics by their full names (see ``names``). A stratum without targets has its counts and nothing else.

    Intervals resample users inside the stratum and are left out where it has fewer than two.
    """
    values = np.stack(
        [metrics.of_ranks(ranks, metric) for ranks in judgement.ranks.values() for metric in RANK_METRICS], axis=1
    )
    columns = [(candidates, metric) for candidates in judgement.ranks for metric in RANK_METRICS]
    summary: dict[str, float] = {}
    for stratum, chosen in strata(judgement).items():
        users = judgement.targets.user[chosen]
        for candidates in judgement.ranks:
            summary[full_name(judgement.part, candidates, stratum, "targets")] = len(users)
            summary[full_name(judgement.part, candidates, stratum, "users")] = len(np.unique(users))
        if len(users) == 0:
            continue
        interval = clustered(values[chosen], users, confidence, resamples, seed)
        for column, (candidates, metric) in enumerate(columns):
            name = full_name(judgement.part, candidates, stratum, metric)
            summary[name] = float(interval.mean[column])
            if interval.users > 1:
                summary[f"{name}/low"] = float(interval.low[column])
                summary[f"{name}/high"] = float(interval.high[column])
    return summary | _of_lists(judgement, snapshot)


def _of_lists(judgement: Judgement, snapshot: Snapshot) -> dict[str, float]:
    if len(judgement.targets) == 0:
        return {}
    counts = popularity(snapshot, judgement.split, snapshot.target_behavior)
    percentile = metrics.percentiles(counts)
    catalog = int(judgement.targets.catalog.max())
    found: dict[str, float] = {}
    for cutoff in LIST_CUTOFFS:
        if judgement.top.shape[1] < cutoff:
            continue
        name = full_name(judgement.part, "full", "all", "")
        found[f"{name}coverage@{cutoff}"] = metrics.coverage(judgement.top, cutoff, catalog)
        found[f"{name}popularity_percentile@{cutoff}"] = metrics.popularity_percentile(
            judgement.top, cutoff, percentile
        )
    return found
