"""The number that chooses the weights."""

from collections.abc import Callable

from hmar.data.counting import PriorCounts
from hmar.data.snapshot import Snapshot
from hmar.evaluate.judge import judge
from hmar.models.base import Recommender

SELECT_ON = "ndcg@10"
"""The metric that chooses: mean over the validation targets, full ranking."""

METRICS = (SELECT_ON, "hr@10", "mrr")


def validation(
    model: Recommender, snapshot: Snapshot, split: str, max_length: int, prior: PriorCounts
) -> Callable[[], dict[str, float]] | None:
    """What judges the model as it is, on full rankings of the validation targets; None where there are none."""
    if len(snapshot.targets(split, "validation")) == 0:
        return None

    def validate() -> dict[str, float]:
        judged = judge(model, snapshot, split, "validation", max_length=max_length, sampled=False, top=0, prior=prior)
        return {name: judged.mean(name) for name in METRICS}

    return validate
