"""What each stage hands to the next: small, JSON, and all that travels between Airflow tasks."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Accounts(_Result):
    """Where every raw row went: rows = events + duplicates + quarantined."""

    rows: int
    events: int
    duplicates: int
    quarantined: int
    reasons: dict[str, int] = {}
    """Quarantined rows by reason. 'outside_window' is counted here even where the settings keep such rows as events."""
    blank_lines: int = 0
    """Lines that are no rows."""


class Landed(_Result):
    """Raw files, read and accounted for, staged; nobody sees them yet."""

    staging: Path
    fingerprint: str
    accounts: Accounts
    reused: bool = False
    """The same files with the same settings are published already; validation has nothing to do."""
    quarantine: Path | None = None
    """The rejected rows of the delivery."""


class Published(_Result):
    """Events that passed validation and are visible."""

    events: Path
    digest: str
    accounts: Accounts
    data_docs: Path | None = None
    changed: bool = True


class Changes(_Result):
    """How the published events differ from what their listeners were told last."""

    digest: str
    """Of the events now."""
    changed: bool
    """Whether the events as a whole are others."""
    partitions: dict[str, str]
    """Content digest of each partition that is new or another, by its first day; '' if it is gone."""
    events: dict[str, int]
    """Events in each of them now."""
    accounts: Accounts


class Built(_Result):
    """A snapshot."""

    snapshot: Path
    id: str
    reused: bool = False


class Trained(_Result):
    """One trained model, best weights chosen on validation."""

    model: str
    directory: Path
    mlflow_run: str


class Evaluated(_Result):
    """One judged model: headline metrics by part, for example metrics["test"]["ndcg@10"] under full ranking."""

    model: str
    directory: Path
    mlflow_run: str
    leaks: tuple[str, ...] = ()
    """What it or its judgement knew that it must not know (:mod:`hmar.leaks`)."""
    metrics: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, tuple[float, float]]] = {}
    """Bounds of the bootstrap intervals over users, named like the metrics; those that could be had."""


class Registered(_Result):
    """The run's best model as a version in the registry."""

    name: str
    version: str
    model: str
    mlflow_run: str
    directory: Path


class Promoted(_Result):
    """The registry after the decision."""

    name: str
    champion: str
    """Version that holds the alias now."""
    promoted: bool
    """Whether the version registered by this run took it."""
    reason: str
    gain: float | None = None
    interval: tuple[float, float] | None = None


class Recommended(_Result):
    """The champion's recommendations."""

    path: Path
    users: int
    rows: int
    champion: str


class Reported(_Result):
    """The run's HTML report."""

    path: Path


class Planned(_Result):
    """A study whose trials wait."""

    study: str
    directory: Path
    trials: int
    mlflow_run: str
    """Parent of the trials' runs."""

    @property
    def file(self) -> Path:
        return self.directory / "study.db"


class Attempted(_Result):
    """One trial of a study."""

    number: int
    state: str
    """complete, pruned or failed; waiting if the study's time was up."""
    value: float | None
    """Validation metric: the best of a complete trial, the last of a pruned one."""


class Tuned(_Result):
    """What a study has found."""

    study: str
    best: Path
    """Settings file for 'hmar retrain --settings'."""
    trial: int
    value: float
    trials: int
    epochs: int
    seconds: float
    """Of training and validation, all trials together."""
    mlflow_run: str


class Cell(_Result):
    """One training of a benchmark: a row of its table, on one dataset and split, with one seed."""

    dataset: str
    split: str
    row: str
    seed: int


class Prepared(_Result):
    """One dataset of a benchmark."""

    dataset: str
    built: Built
    accounts: Accounts


class Searched(_Result):
    """What the search for a benchmark's row has found on one dataset and split."""

    dataset: str
    split: str
    row: str
    settings: dict[str, Any]
    """The best trial's own training settings; empty where nothing was searched."""
    trials: int
    epochs: int
    seconds: float
    """Of training and validation, all trials together."""


class Measured(_Result):
    """One finished cell."""

    cell: Cell
    file: Path
    """Its JSON: metrics, cost, what it was made of."""


class Concluded(_Result):
    """The tables of a benchmark."""

    markdown: Path
    cells: int
    missing: tuple[Cell, ...]
    mlflow_run: str
