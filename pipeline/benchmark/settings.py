"""The settings of a benchmark. This module is imported when Airflow parses the DAGs: keep it light."""

from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from hmar.settings import LayeredSettings, Section, nearest
from hmar.tune.settings import PruningSettings
from pipeline.home import Home
from pipeline.settings import EngineSettings


class GeneratedLog(Section):
    """A log that ``hmar simulate`` writes, in place of a raw one."""

    source: Literal["amazon", "kuairand", "movielens", "taobao", "tianchi", "tmall", "yelp"] = "taobao"
    users: int = Field(1000, ge=2)
    items: int = Field(1000, ge=20)
    days: int | None = Field(None, ge=1)
    events_per_user: float = Field(60, ge=2)
    seed: int = Field(0, ge=0)


class BenchmarkDataset(Section):
    """One log. Its name in the benchmark is that of its events and snapshots in the data directory."""

    dataset: str = ""
    """Preset of the log's kind, as for 'hmar retrain'; if empty, the one that the settings file names."""
    settings: Path | None = None
    """A settings file for 'hmar retrain'; a relative path starts at the working directory."""
    raw: Path | None = None
    """The raw log; a relative path starts at the benchmark's data directory. If empty, that of the settings file."""
    generated: GeneratedLog | None = None
    """Made-up log in place of a raw one."""
    retrain: dict[str, Any] = Field(default_factory=dict)
    """Further settings of 'hmar retrain': {"snapshot": {"k_core": {"user": 5}}, "ingest": {"partition": "month"}}."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Training settings of all rows on this log: {"max_epochs": 50}."""

    @model_validator(mode="after")
    def _one_log(self) -> "BenchmarkDataset":
        if self.generated is not None and (self.raw is not None or self.settings is not None):
            raise ValueError("generated: leave raw and settings out, the log is made")
        if not self.dataset and self.settings is None and self.generated is None:
            raise ValueError("give dataset (a preset), settings (a file that names one) or generated")
        return self


class BenchmarkRow(Section):
    """One line of the tables: a model with settings."""

    model: str
    """Registered model."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Training settings over the preset; what is set here is not searched."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The model's own settings over the preset; the same."""
    search: dict[str, Any] = Field(default_factory=dict)
    """Changes to the search space, null takes a line out."""
    trials: int | None = Field(None, ge=0)
    """Trials of its search; if not given, the benchmark's."""
    tuned_as: str = ""
    """Another row, whose best settings this one takes, its own over them: for ablations."""
    varies: str = ""
    """Another row, which this one changes in one thing; the tables have what that gains, paired over users."""


class SearchSettings(Section):
    """How trials are run, besides their number."""

    max_epochs: int | None = Field(None, ge=1)
    """Epochs of a trial at most; if not given, those of the training."""
    pruning: PruningSettings = PruningSettings()
    seed: int = Field(0, ge=0)
    """Of trials and search."""


class BenchmarkSettings(LayeredSettings):
    """Rows (models with settings) x datasets x splits x seeds, under one protocol: tables, figures, MLflow runs.

    What is finished is kept: the same command goes on after an interruption, and a changed row runs alone. Settings are
    chosen on validation targets, by the same number of trials for every row.
    """

    name: str = "benchmark"
    """Name of the benchmark, in the data directory and in MLflow (experiment benchmark-NAME)."""
    datasets: dict[str, BenchmarkDataset] = Field(default_factory=dict)
    """Name to log: {"ml-100k": {"dataset": "movielens", "raw": "ml-100k"}}."""
    rows: dict[str, BenchmarkRow] = Field(default_factory=dict)
    """Label to model: {"SASRec, gBCE": {"model": "sasrec", "train": {"loss": "gbce"}}}; if empty, every registered
    model as its preset has it."""
    splits: tuple[Literal["leave_one_out", "temporal"], ...] = ("leave_one_out", "temporal")
    """Splits to train on and to be judged on; a table each."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One training per trainable row and seed."""
    trials: int = Field(0, ge=0, le=1000)
    """Trials of the search that each row has on each dataset and split; the first is the preset. 0: no search."""
    tune: SearchSettings = SearchSettings()
    train: dict[str, Any] = Field(default_factory=dict)
    """Training settings of all rows: {"patience": 20}."""
    baselines: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """What rows are compared with, pairwise over users: {"best rule": ["Popularity", "Recent"], "best SASRec":
    ["SASRec*"]}; of several rows the best on validation."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Of the bootstrap intervals over users."""
    resamples: int = Field(2000, ge=100)
    """Bootstrap resamples of the users."""
    jobs: int = Field(1, ge=1)
    """Trainings at a time; each computes with one thread unless train says otherwise."""
    only_datasets: tuple[str, ...] = ()
    """Run on these only; the tables hold all that is there."""
    only_rows: tuple[str, ...] = ()
    """Run these only; labels or patterns such as "SASRec*"."""
    only_splits: tuple[str, ...] = ()
    """Run on these only."""
    tables_only: bool = False
    """Run nothing; make the tables of what is there."""
    partial: bool = False
    """Make tables though runs are missing; they say which."""
    data: Path = Path()
    """Directory that relative raw paths start at."""
    out: Path | None = None
    """Tables go to OUT.md, OUT.csv and OUT.json, figures to OUT/; if empty, into the data directory."""
    home: Path = Path("var")
    """Data directory of the pipeline."""
    tracking_uri: str = ""
    """MLflow address; an SQLite file in home if empty."""
    engine: EngineSettings = EngineSettings()

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        return _plain(name)

    @field_validator("datasets")
    @classmethod
    def _plain_names(cls, datasets: dict[str, BenchmarkDataset]) -> dict[str, BenchmarkDataset]:
        for name in datasets:
            _plain(name)
        return datasets

    @field_validator("seeds", "splits")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values or len(set(values)) != len(values):
            raise ValueError("name at least one, each once")
        return values

    @field_validator("rows")
    @classmethod
    def _some_rows(cls, rows: dict[str, BenchmarkRow]) -> dict[str, BenchmarkRow]:
        from hmar.models import MODELS

        rows = rows or {model: BenchmarkRow(model=model) for model in MODELS}
        for label, row in rows.items():
            if row.model not in MODELS:
                raise ValueError(f"{label}: unknown model {row.model!r}{nearest(row.model, list(MODELS))}")
            if row.tuned_as and (row.tuned_as not in rows or rows[row.tuned_as].model != row.model):
                raise ValueError(f"{label}: tuned_as: {row.tuned_as!r} is no row of model {row.model}")
            if row.tuned_as and rows[row.tuned_as].tuned_as:
                raise ValueError(f"{label}: tuned_as: {row.tuned_as!r} is itself tuned as another row; name that one")
            if row.varies and (row.varies not in rows or row.varies == label):
                raise ValueError(f"{label}: varies: {row.varies!r} is no other row{nearest(row.varies, list(rows))}")
        return rows

    @model_validator(mode="after")
    def _names_match(self) -> "BenchmarkSettings":
        named: list[tuple[str, tuple[str, ...], list[str]]] = [
            *((f"baselines.{name}", names, list(self.rows)) for name, names in self.baselines.items()),
            ("only_rows", self.only_rows, list(self.rows)),
            ("only_datasets", self.only_datasets, list(self.datasets)),
            ("only_splits", self.only_splits, list(self.splits)),
        ]
        for where, patterns, known in named:
            for pattern in patterns:
                if not matching(known, (pattern,)):
                    raise ValueError(f"{where}: nothing is called {pattern!r}{nearest(pattern, known)}")
        return self

    @cached_property
    def paths(self) -> Home:
        """The layout of the data directory."""
        return Home(self.home.absolute())

    @property
    def directory(self) -> Path:
        """What the benchmark keeps: what is prepared, tuned and measured."""
        return self.paths.benchmark(self.name)

    @property
    def table(self) -> Path:
        """The tables' path without suffix."""
        return self.out.absolute() if self.out is not None else self.directory / "tables" / self.name

    @property
    def mlflow_uri(self) -> str:
        return self.tracking_uri or self.paths.mlflow_uri

    @property
    def experiment(self) -> str:
        return f"benchmark-{self.name}"


def matching(names: list[str], patterns: tuple[str, ...]) -> list[str]:
    """The names that are one of the patterns or match it; all where there are no patterns."""
    return [name for name in names if not patterns or any(name == p or fnmatchcase(name, p) for p in patterns)]


def _plain(name: str) -> str:
    if not name or not all(c.isalnum() or c in "-_." for c in name):
        raise ValueError(f"{name!r}: a name is letters, digits, '-', '_' and '.'")
    return name
