"""The stages from the snapshot to the report, really run."""

import io
from contextlib import redirect_stdout
from dataclasses import dataclass

from pipeline.kept import keep
from pipeline.results import Built, Evaluated, Promoted, Recommended, Registered, Reported, Trained
from pipeline.settings import RetrainSettings
from pipeline.stages.evaluate import evaluate
from pipeline.stages.promote import promote
from pipeline.stages.recommend import recommend
from pipeline.stages.register import register
from pipeline.stages.report import report
from pipeline.stages.train import train
from tests.support.registry import Shop

RUN = "night"


@dataclass(frozen=True)
class Night:
    """What every stage returned, and the lines of the child processes."""

    s: RetrainSettings
    built: Built
    trained: dict[str, Trained]
    evaluated: dict[str, Evaluated]
    registered: Registered
    promoted: Promoted
    recommended: Recommended
    reported: Reported
    output: str


def whole_night(shop: Shop) -> Night:
    """Train two models, judge, register, decide, recommend, report."""
    values = shop.s.model_dump() | {
        "models": ("sasrec", "popularity"),
        "train": {"threads": 1, "device": "cpu", "max_length": 20},
        "overrides": {"sasrec": {"max_epochs": 2, "config": {"d": 8, "positions": 20}}},
        "recommend": {"k": 7},
        "seed": 3,
    }
    s = RetrainSettings.resolve(values, use_environment=False)
    keep(s, RUN, shop.built)
    stream = io.StringIO()
    with redirect_stdout(stream):
        trained = {model: train(s, shop.built, model, RUN) for model in s.models}
        evaluated = {model: evaluate(s, shop.built, one) for model, one in trained.items()}
    judged = list(evaluated.values())
    registered = register(s, shop.built, judged)
    promoted = promote(s, shop.built, registered)
    recommended = recommend(s, shop.built, promoted)
    reported = report(s, RUN, shop.built, judged, promoted)
    return Night(s, shop.built, trained, evaluated, registered, promoted, recommended, reported, stream.getvalue())
