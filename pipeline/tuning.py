"""A search put together from its settings: the space, what all trials have in common, and one trial's training."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hmar.errors import SettingsError
from hmar.models import MODELS
from hmar.settings import deep_merge, nearest
from pipeline.home import run_key
from pipeline.preflight import check_impressions
from pipeline.results import Built
from pipeline.training import training_settings, training_values
from pipeline.tune_settings import TuneSettings

if TYPE_CHECKING:
    from hmar.train.settings import TrainSettings
    from hmar.tune.space import SearchSpace

_NOWHERE = Path("snapshot")
"""Stands for a snapshot where settings are checked before there is one."""


def space(s: TuneSettings) -> "SearchSpace":
    """What is searched.

    Raises:
        SettingsError: it is not a search space, or the model has none.
    """
    from hmar.train.settings import preset_names
    from hmar.tune.space import search_space

    return search_space(s.model, s.dataset if s.dataset in preset_names() else "", s.search)


def common(s: TuneSettings, snapshot: Path = _NOWHERE) -> "TrainSettings":
    """The training settings that all trials start from.

    Raises:
        SettingsError: they are not valid; the model and the key are named.
    """
    found = training_settings(s, s.model, snapshot, "study")
    return found if s.max_epochs is None else found.model_copy(update={"max_epochs": s.max_epochs})


def check(s: TuneSettings) -> None:
    """All that can be wrong with a search before there is a snapshot.

    Raises:
        SettingsError: an unknown model, a search space that is none, or a combination in it that cannot be trained,
            or a ranker and no labelled impressions.
    """
    from hmar.tune.legal import refuse_illegal, refuse_leaks, refuse_unknown_keys

    if s.model not in MODELS:
        raise SettingsError(f"model: unknown {s.model!r}{nearest(s.model, list(MODELS))}")
    for name in s.overrides:
        if name not in MODELS:
            raise SettingsError(f"overrides: unknown model {name!r}{nearest(name, list(MODELS))}")
    searched, base = space(s), common(s)
    check_impressions(s, (s.model,))
    refuse_leaks(base)
    refuse_unknown_keys(searched, s.model)
    refuse_illegal(searched, base)


def study_name(s: TuneSettings, built: Built) -> str:
    """The study's key: the one that is given, else this dataset and snapshot."""
    return run_key(s.study) or run_key(f"{s.name}-{built.id}")


def definition(s: TuneSettings, built: Built) -> dict[str, Any]:
    """All that decides what a study's trials are. Not how many there are, nor how they are run."""
    from hmar.train.directory import computing

    return {
        "model": s.model,
        "snapshot": built.id,
        "seed": s.seed,
        "pruning": s.pruning.model_dump(mode="json"),
        "search": space(s).spelled(),
        "training": computing(common(s, built.snapshot).model_dump(mode="json")),
    }


def trial_values(
    s: TuneSettings, built: Built, study: str, number: int, settings: dict[str, Any], parent: str
) -> dict[str, Any]:
    """The values for ``hmar.train`` of one trial: those in common, the trial's own above them.

    Args:
        parent: id of the study's MLflow run.
    """
    values = deep_merge(training_values(s, s.model, built.snapshot, study), settings)
    if s.max_epochs is not None:
        values["max_epochs"] = s.max_epochs
    values["out"] = str(trial_directory(s, study, number))
    tags = {"hmar.study": study, "hmar.trial": str(number), "mlflow.parentRunId": parent}
    own = {"experiment": experiment(s), "run_name": f"trial {number}", "weights": False}
    values["tracking"] |= {**own, "tags": {**values["tracking"]["tags"], **tags}}
    return values


def experiment(s: TuneSettings) -> str:
    """The MLflow experiment of a dataset's searches, beside that of its runs."""
    return f"hmar-{s.name}-tune"


def trial_directory(s: TuneSettings, study: str, number: int) -> Path:
    return s.paths.study(study, s.model) / "trials" / f"{number:04d}"


def best_settings(s: TuneSettings, settings: dict[str, Any]) -> dict[str, Any]:
    """A settings file for ``hmar retrain``: what the search found over what it was given. Where and how a training is
    run is left to who runs it, and so is its length."""
    from hmar.train.settings import RESUMABLE_KEYS

    given = deep_merge(s.train, s.overrides.get(s.model, {}))
    kept = {key: value for key, value in given.items() if key not in RESUMABLE_KEYS}
    return {"overrides": {s.model: deep_merge(kept, settings)}}
