"""Whether a snapshot has what the run's trainings need: what is missing is said before the first of them begins."""

from hmar.data.snapshot import Snapshot
from hmar.errors import DataError
from hmar.models import model_class
from pipeline.results import Built
from pipeline.settings import RetrainSettings
from pipeline.training import training_settings


def suited(s: RetrainSettings, built: Built) -> Built:
    """The snapshot, if a run of these settings can end on it.

    Raises:
        DataError: its split has no validation targets, so no model could be chosen; or a ranker is to be trained and
            the labelled impressions of its training part are all yes, all no, or none.
    """
    of_split = Snapshot(built.snapshot).manifest.splits[s.split]
    if not of_split["validation"]["targets"]:
        of = (
            f"no user has two {s.snapshot.target!r} events that may be targets"
            if s.split == "leave_one_out"
            else f"no {s.snapshot.target!r} event that could be one lies in its time"
        )
        raise DataError(
            f"{built.snapshot}: split {s.split} has no validation targets, so no model could be chosen: {of}; deliver "
            "more events, or lower snapshot.k_core"
        )
    labelled(s, built)
    return built


def labelled(s: RetrainSettings, built: Built) -> None:
    """Whether its rankers find both labels in the snapshot.

    Raises:
        DataError: the labelled impressions of the training part are all yes, all no, or none.
    """
    told = Snapshot(built.snapshot).manifest.splits[s.split].get("impressions", {}).get("training", {})
    for model in s.models:
        if model_class(model).family == "ranker":
            _refuse_one_label(s, built, model, told)


def _refuse_one_label(s: RetrainSettings, built: Built, model: str, told: dict[str, int]) -> None:
    """``told``: impressions of the training part, and how many of them are positive."""
    positive = told.get("positive", 0)
    # With in_batch the moments of a step lend each other their positives as negatives.
    lent = training_settings(s, model, built.snapshot, "suited").in_batch > 0
    negative = told.get("impressions", 0) - positive
    if positive and (negative or lent):
        return
    what = f"no event of {', '.join(s.snapshot.positive)} to say yes" if not positive else "nothing that says no"
    raise DataError(
        f"{built.snapshot}: {model} is a ranker, and the labelled impressions of split {s.split} hold {what}; set "
        f"{'snapshot.impressions.positive' if not positive else 'snapshot.impressions.sampled or .negative'}, or leave "
        f"{model} out of models"
    )
