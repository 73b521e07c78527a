"""The settings of a search. This module is imported when Airflow parses the DAGs: keep it light."""

from pathlib import Path
from typing import Any

from pydantic import Field

from hmar.tune.settings import PruningSettings
from pipeline.settings import RetrainSettings


class TuneSettings(RetrainSettings):
    """Search better settings for one model, chosen on validation targets only. The same command goes on with its study.

    A trial is one training. What is found is written as a settings file for 'hmar retrain --settings'.
    """

    raw: Path = Path()
    """Not used by this command."""
    models: tuple[str, ...] = ()
    """Not used by this command; see model."""
    model: str = "hmar"
    """The model whose settings are searched."""
    study: str = ""
    """Name of the study; if empty, one for this dataset and snapshot, which the same command goes on with."""
    trials: int = Field(40, ge=1, le=1000)
    """Trials of the study in all; more of them continue it."""
    max_epochs: int | None = Field(None, ge=1)
    """Epochs of a trial at most; if not given, those of the model's training."""
    parallel: int = Field(1, ge=1)
    """Trials at a time. One at a time can be repeated exactly, and sees all that came before it."""
    timeout: float | None = Field(None, gt=0)
    """Seconds of training, all trials together, after which no new one starts; no limit if not given."""
    search: dict[str, Any] = Field(default_factory=dict)
    """Changes to the search space, null takes a line out: {"lr": {"type": "float", "low": 1e-4, "high": 1e-2}}."""
    pruning: PruningSettings = PruningSettings()
