"""The settings of a training, put together from the settings of the run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hmar.errors import SettingsError
from hmar.models import MODELS, model_class
from hmar.settings import deep_merge, nearest
from pipeline.settings import RetrainSettings

if TYPE_CHECKING:
    from hmar.train.settings import TrainSettings

OWN_KEYS = frozenset({"model", "snapshot", "out", "split", "protocol", "tracking"})
"""What the pipeline decides; not to be set under ``train`` or ``overrides``."""


def training_values(s: RetrainSettings, model: str, snapshot: Path, run: str) -> dict[str, Any]:
    """The values for ``hmar.train`` above its own presets: run's settings < ``train`` < ``overrides`` of the model.

    Raises:
        SettingsError: ``train`` or ``overrides`` hold a key that the pipeline decides, or no mapping.
    """
    from hmar.train.settings import preset_names

    values: dict[str, Any] = {"seed": s.seed}
    if s.dataset in preset_names():
        values["preset"] = s.dataset
    for where, layer in (("train", s.train), (f"overrides.{model}", s.overrides.get(model, {}))):
        _refuse_own_keys(where, layer)
        values = deep_merge(values, layer)
    return {
        **values,
        "model": model,
        "snapshot": str(snapshot),
        "out": str(s.paths.training(run, model)),
        "split": s.split,
        "protocol": s.protocol,
        "tracking": {
            "uri": s.mlflow_uri,
            "experiment": f"hmar-{s.name}",
            "artifacts": "" if s.tracking_uri else str(s.paths.mlflow_artifacts),
            "run_name": f"{model} {run}",
            "tags": {"hmar.run": run, "hmar.dataset": s.name, "hmar.model": model},
        },
    }


def training_settings(s: RetrainSettings, model: str, snapshot: Path, run: str) -> "TrainSettings":
    """The same, resolved and validated as the child will do it.

    Raises:
        SettingsError: names the model and the key.
    """
    from hmar.train.settings import TrainSettings

    values = training_values(s, model, snapshot, run)
    own = model_class(model).Config.model_fields
    for key in values:
        if key in own and key not in TrainSettings.model_fields:
            raise SettingsError(f"training settings of {model}: {key}: unknown setting; did you mean 'config.{key}'?")
    try:
        return TrainSettings.resolve(values, use_environment=False)
    except SettingsError as error:
        lines = [f"training settings of {model}: {line}" for line in str(error).splitlines()]
        raise SettingsError("\n".join(lines)) from None


def refuse_unknown_models(s: RetrainSettings) -> None:
    """Every model that is named, to train or in overrides, is registered; none is named twice.

    Raises:
        SettingsError: the nearest known name is given.
    """
    if not s.models:
        raise SettingsError(f"models: name at least one; known: {', '.join(sorted(MODELS))}")
    for where, names in (("models", list(s.models)), ("overrides", list(s.overrides))):
        for name in names:
            if name not in MODELS:
                raise SettingsError(f"{where}: unknown model {name!r}{nearest(name, list(MODELS))}")
    for name in s.models:
        if s.models.count(name) > 1:
            raise SettingsError(f"models: {name!r} stands twice")


def _refuse_own_keys(where: str, layer: Mapping[str, Any]) -> None:
    for key in layer:
        if key in OWN_KEYS:
            raise SettingsError(f"{where}.{key}: the pipeline decides this one; leave it out")
