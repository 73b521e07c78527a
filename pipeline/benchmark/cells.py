"""A benchmark put together from its settings: the cells, and the pipeline's own settings for each of them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hmar.errors import DataError, SettingsError
from hmar.models import model_class
from hmar.settings import deep_merge, read_yaml
from pipeline.benchmark.settings import BenchmarkDataset, BenchmarkRow, BenchmarkSettings, matching
from pipeline.home import run_key
from pipeline.results import Built, Cell
from pipeline.settings import RetrainSettings
from pipeline.tune_settings import TuneSettings

_THREADS = {"threads": 1}
"""Of every training, unless the settings say otherwise: cells run side by side, and their times are to be compared."""


def plan(b: BenchmarkSettings) -> list[Cell]:
    """All cells, in the order of the settings. What has no weights does not depend on the seed and has the first."""
    return [
        Cell(dataset=dataset, split=split, row=label, seed=seed)
        for dataset in b.datasets
        for split in b.splits
        for label, row in b.rows.items()
        for seed in (b.seeds if model_class(row.model).trainable else b.seeds[:1])
    ]


def chosen(b: BenchmarkSettings, cells: list[Cell]) -> list[Cell]:
    """Those that the settings' ``only_`` filters leave."""
    datasets = matching(list(b.datasets), b.only_datasets)
    rows = matching(list(b.rows), b.only_rows)
    splits = matching(list(b.splits), b.only_splits)
    return [one for one in cells if one.dataset in datasets and one.row in rows and one.split in splits]


def searches(b: BenchmarkSettings) -> list[Cell]:
    """One for every dataset, split and row that has a budget and whose cells, or those tuned as it, the filters leave;
    the seed is that of all searches."""
    needed = dict.fromkeys(search_of(b, one) for one in chosen(b, plan(b)))
    return [one for one in needed if trials(b, b.rows[one.row])]


def search_of(b: BenchmarkSettings, cell: Cell) -> Cell:
    """The search that gives a cell its settings: of its own row, or of that which it is tuned as; all cells of a row
    have the same one."""
    return cell.model_copy(update={"row": b.rows[cell.row].tuned_as or cell.row, "seed": b.tune.seed})


def trials(b: BenchmarkSettings, row: BenchmarkRow) -> int:
    """The budget of a row's search; 0 for what has no weights and for what takes another row's settings."""
    if row.tuned_as or not model_class(row.model).trainable:
        return 0
    return b.trials if row.trials is None else row.trials


def check(b: BenchmarkSettings) -> None:
    """All that can be wrong before anything is run: settings of every dataset, row and search.

    Raises:
        SettingsError: dataset, row and key are named.
    """
    from pipeline import tuning
    from pipeline.training import training_settings

    if not b.datasets:
        raise SettingsError('datasets: name at least one: {"ml-100k": {"dataset": "movielens", "raw": "ml-100k"}}')
    for dataset in b.datasets:
        for label, row in b.rows.items():
            try:
                s = retrain_settings(b, dataset, b.splits[0], label, b.seeds[0])
                if s.protocol != "honest":
                    raise SettingsError("protocol: a benchmark is honest; 'hmar train' follows the published one")
                training_settings(s, row.model, Path("snapshot"), "benchmark")
                if trials(b, row):
                    tuning.check(tune_settings(b, dataset, b.splits[0], label))
            except SettingsError as error:
                raise SettingsError(f"dataset {dataset}, row {label}: {error}") from None


def check_logs(b: BenchmarkSettings) -> None:
    """The raw logs of what is to be run are there.

    Raises:
        DataError: one is not; dataset and path are named.
    """
    from pipeline.preflight import check_raw

    for dataset in matching(list(b.datasets), b.only_datasets):
        if b.datasets[dataset].generated is None:
            try:
                check_raw(raw_log(b, dataset))
            except DataError as error:
                raise DataError(f"dataset {dataset}: {error}") from None


def data_settings(b: BenchmarkSettings, dataset: str) -> RetrainSettings:
    """The settings of a dataset, for the stages up to the snapshot.

    Raises:
        SettingsError: they are not valid.
    """
    return RetrainSettings.resolve(_values(b, dataset), use_environment=False)


def retrain_settings(
    b: BenchmarkSettings, dataset: str, split: str, label: str, seed: int, found: Mapping[str, Any] | None = None
) -> RetrainSettings:
    """The settings of one cell: the dataset's, the row's, and what its search has found.

    Args:
        found: training settings of the best trial.

    Raises:
        SettingsError: they are not valid.
    """
    values, row = _values(b, dataset), b.rows[label]
    own = _own(row)
    layers = [own, found or {}] if not row.tuned_as else [found or {}, own]
    overrides = dict(values.get("overrides") or {}).get(row.model) or {}
    for layer in layers:
        overrides = deep_merge(overrides, layer)
    values |= {"split": split, "seed": seed, "models": (row.model,), "overrides": {row.model: overrides}}
    return RetrainSettings.resolve(values, use_environment=False)


def tune_settings(b: BenchmarkSettings, dataset: str, split: str, label: str, study: str = "") -> TuneSettings:
    """The settings of a row's search on a dataset and split. What the row sets itself is not searched.

    Raises:
        SettingsError: they are not valid, or the model has no search space.
    """
    from hmar.tune.space import search_space
    from pipeline.settings import preset_names

    row = b.rows[label]
    s = retrain_settings(b, dataset, split, label, b.tune.seed)
    values = s.model_dump(mode="json", exclude={"models", "raw", "day"}, exclude_unset=True)
    pinned = set(_flat(_own(row)))
    space = search_space(row.model, s.dataset if s.dataset in preset_names() else "", row.search)
    fixed = {name: None for key, name in space.keys().items() if key in pinned and name not in row.search}
    values |= {
        "model": row.model,
        "study": study,
        "trials": max(trials(b, row), 1),
        "max_epochs": b.tune.max_epochs,
        "pruning": b.tune.pruning.model_dump(mode="json"),
        "search": {**fixed, **row.search},
    }
    return TuneSettings.resolve(values, use_environment=False)


def raw_log(b: BenchmarkSettings, dataset: str) -> Path:
    """Where the raw log lies, or will lie once it is made.

    Raises:
        SettingsError: none is named.
    """
    d = b.datasets[dataset]
    if d.generated is not None:
        return b.directory / "raw" / f"{dataset}-{digest(d.generated.model_dump(mode='json'))}"
    raw = d.raw or (Path(read_yaml(d.settings).get("raw") or "") if d.settings else Path())
    if raw == Path():
        raise SettingsError(f"datasets.{dataset}.raw: is required")
    return (b.data / raw if d.raw is not None else raw).absolute()


def run_of(b: BenchmarkSettings, cell: Cell, key: str) -> str:
    """The name of a cell's training."""
    return run_key(f"benchmark-{b.name}-{cell.dataset}-{cell.split}-{cell.row}-{cell.seed}-{key}")


def study_of(b: BenchmarkSettings, cell: Cell, s: TuneSettings, built: Built) -> str:
    """The name of the search for a cell's row: another definition is another study."""
    from pipeline import tuning

    key = digest(tuning.definition(s, built))
    return run_key(f"benchmark-{b.name}-{cell.dataset}-{cell.split}-{cell.row}-{key}")


def made_of(s: RetrainSettings, built: Built) -> dict[str, Any]:
    """All that decides a cell's numbers, but the code and the machine; ``s`` is of :func:`retrain_settings`."""
    from hmar.train.directory import computing
    from pipeline.training import training_settings

    (model,) = s.models
    training = training_settings(s, model, built.snapshot, "benchmark").model_dump(mode="json")
    return {"snapshot": built.id, "training": computing(training)}


def digest(content: Any) -> str:
    """Eight hexadecimal digits of JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _values(b: BenchmarkSettings, dataset: str) -> dict[str, Any]:
    d: BenchmarkDataset = b.datasets[dataset]
    values = deep_merge(read_yaml(d.settings) if d.settings else {}, d.retrain)
    kind = d.dataset or (d.generated.source if d.generated else str(values.get("dataset", "")))
    train = deep_merge(deep_merge(_THREADS, b.train), deep_merge(values.get("train") or {}, d.train))
    return {
        **values,
        "dataset": kind,
        "name": dataset,
        "raw": str(raw_log(b, dataset)),
        "train": train,
        "home": str(b.home.absolute()),
        "tracking_uri": b.tracking_uri,
        "engine": b.engine.model_dump(mode="json"),
        "promote": {"confidence": b.confidence},
    }


def _own(row: BenchmarkRow) -> dict[str, Any]:
    return deep_merge(row.train, {"config": row.config} if row.config else {})


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
