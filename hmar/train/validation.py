"""The number that chooses the weights."""

from collections.abc import Callable
from statistics import fmean

from hmar.data.counting import PriorCounts
from hmar.data.snapshot import Part, Snapshot
from hmar.evaluate.impressions import asked_about, judge_impressions
from hmar.evaluate.judge import judge
from hmar.evaluate.names import Candidates
from hmar.models.base import Recommender

SELECT_ON = "ndcg@10"
"""The metric that chooses: mean over the validation targets, full ranking, unless the settings leave the protocol."""

METRICS = (SELECT_ON, "hr@10", "mrr")
IMPRESSION_METRICS = ("auc", "gauc")


def validation(
    model: Recommender,
    snapshot: Snapshot,
    split: str,
    max_length: int,
    prior: PriorCounts,
    part: Part = "validation",
    among: Candidates = "full",
    metric: str = SELECT_ON,
) -> Callable[[], dict[str, float]] | None:
    """What judges the model as it is, on full rankings of the validation targets; None where there are none.

    Args:
        part: whose targets; the test targets are a leak. among: the candidates that they are ranked among.
        metric: that chooses, among those returned. For one of labelled impressions these are judged, and no rankings.

    Raises:
        DataError: the snapshot has no labelled impressions, and the metric is theirs.
    """
    if metric in IMPRESSION_METRICS:
        return _of_impressions(model, snapshot, split, max_length, prior, part)
    if len(snapshot.targets(split, part)) == 0:
        return None
    sampled = among == "sampled"

    def validate() -> dict[str, float]:
        judged = judge(model, snapshot, split, part, max_length=max_length, sampled=sampled, top=0, prior=prior)
        return {name: judged.mean(name, among) for name in METRICS}

    return validate


def _of_impressions(
    model: Recommender, snapshot: Snapshot, split: str, max_length: int, prior: PriorCounts, part: Part
) -> Callable[[], dict[str, float]] | None:
    tasks = [task for task in asked_about(model) if len(snapshot.impressions(split, part, task))]
    if not tasks:
        return None

    def validate() -> dict[str, float]:
        """The mean over the tasks that the model learns."""
        judged = [
            judge_impressions(model, snapshot, split, part, max_length=max_length, prior=prior, task=task)
            for task in tasks
        ]
        return {name: fmean(one.mean(name) for one in judged) for name in IMPRESSION_METRICS}

    return validate
