"""What the cells of a dataset and split say together: means over seeds, intervals over users, gains over baselines."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hmar.errors import DataError
from hmar.evaluate.names import STRATA
from pipeline.benchmark.settings import BenchmarkSettings, matching
from pipeline.judged import evaluation_directory, per_target
from pipeline.results import Built, Cell, Measured

Floats = NDArray[np.float64]

METRIC = "ndcg@10"
"""What rows are ordered and compared by: full ranking, test targets."""

WITH_INTERVAL = {"ndcg@10": "full", "hr@10": "full", "mrr": "full", "hr@10 sampled": "sampled"}
"""Columns to candidates."""

LISTS = ("coverage@10", "popularity_percentile@10")
"""Of the lists under full ranking."""

VARIED = "row varied"
"""Among gains: over the row that a row varies."""

IMPRESSIONS = ("auc", "gauc", "mrr", "ndcg")

_VALIDATION = f"validation/full/all/{METRIC}"


@dataclass(frozen=True)
class Run:
    """A finished cell, and where its training lies."""

    cell: Cell
    content: dict[str, Any]
    directory: Path


def read(file: Path) -> dict[str, Any]:
    """A cell's JSON."""
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def runs(b: BenchmarkSettings, found: Sequence[Measured]) -> list[Run]:
    """The finished cells with their content."""
    contents = [read(one.file) for one in found]
    return [
        Run(one.cell, content, b.paths.root / content["directory"])
        for one, content in zip(found, contents, strict=True)
    ]


def table(b: BenchmarkSettings, built: Built, split: str, made: Sequence[Run]) -> dict[str, Any]:
    """All numbers of the table of one dataset and split.

    ``rows`` by label: ``seeds``; ``mean``, ``sd`` (None with one seed) and ``interval`` by name; ``gain`` by baseline
    and stratum, {mean, low, high}, and over the row that it varies; ``impressions``, the same for labelled impressions,
    where there are any; ``epochs``, ``best_epoch`` and ``cost``, means over seeds; ``at_limit``, how many of the runs
    were ended by the limit of epochs. ``baselines`` by name: the label that was chosen on validation. ``targets`` and
    ``users`` by stratum.

    Raises:
        DataError: an outcome is missing, or two runs were not judged on the same targets.
    """
    by_row: dict[str, list[Run]] = {}
    for one in made:
        by_row.setdefault(one.cell.row, []).append(one)
    by_row = {label: by_row[label] for label in b.rows if label in by_row}
    baselines = _baselines(b, by_row)
    rows = {label: {**_means(of_row), "varies": b.rows[label].varies} for label, of_row in by_row.items()}
    told = _ranked(b, built, split, by_row, baselines, rows)
    _shown(b, built, split, by_row, baselines, rows)
    return {**told, "baselines": baselines, "rows": rows}


def _baselines(b: BenchmarkSettings, by_row: Mapping[str, Sequence[Run]]) -> dict[str, str]:
    """The row that each baseline is: of those there, the best on validation. Test targets have no say."""
    found = {}
    for name, patterns in b.baselines.items():
        candidates = matching(list(by_row), patterns)
        if candidates:
            found[name] = max(candidates, key=lambda label: _validated(by_row[label]))
    return found


def _validated(of_row: Sequence[Run]) -> float:
    return float(np.mean([one.content["metrics"].get(_VALIDATION, -np.inf) for one in of_row]))


def _means(of_row: Sequence[Run]) -> dict[str, Any]:
    """What needs no outcome per target."""
    names = [f"test/full/{stratum}/{METRIC}" for stratum in STRATA]
    names += ["test/full/all/hr@10", "test/full/all/mrr", "test/sampled/all/hr@10", _VALIDATION]
    names += [f"test/full/all/{metric}" for metric in LISTS]
    names += [f"test/impressions/all/{metric}" for metric in IMPRESSIONS]
    metrics = [one.content["metrics"] for one in of_row]
    values = {name: [float(m[name]) for m in metrics] for name in names if all(name in m for m in metrics)}
    costs = [one.content["cost"] for one in of_row]
    epochs = [one.content["epochs"] for one in of_row]
    limits = [one.content["made_of"]["training"]["max_epochs"] for one in of_row]
    return {
        "model": of_row[0].content["model"],
        "seeds": [one.cell.seed for one in of_row],
        "mean": {name: float(np.mean(v)) for name, v in values.items()},
        "sd": {name: float(np.std(v, ddof=1)) if len(v) > 1 else None for name, v in values.items()},
        "interval": {},
        "gain": {},
        "epochs": float(np.mean(epochs)),
        "best_epoch": _mean([one.content["best_epoch"] for one in of_row]),
        "at_limit": sum(ran == limit for ran, limit in zip(epochs, limits, strict=True) if ran),
        "cost": {key: _mean([cost[key] for cost in costs]) for key in costs[0]},
        "leaks": sorted({leak for one in of_row for leak in one.content["leaks"]}),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None


# -- ranked targets --------------------------------------------------------------------------------------------------


def _ranked(
    b: BenchmarkSettings,
    built: Built,
    split: str,
    by_row: Mapping[str, Sequence[Run]],
    baselines: Mapping[str, str],
    rows: Mapping[str, dict[str, Any]],
) -> dict[str, Any]:
    """Put intervals and gains into ``rows``; counts of targets and users by stratum."""
    from hmar.evaluate.intervals import clustered

    outcomes = {label: _outcome(of_row, built, split) for label, of_row in by_row.items()}
    first = next(iter(outcomes.values()))
    for label, one in outcomes.items():
        if not (one.users.shape == first.users.shape and (one.targets == first.targets).all()):
            raise DataError(f"{label}: was judged on other targets than the other rows; delete its cells and run again")
    counts: dict[str, Any] = {"targets": {}, "users": {}}
    compared = {
        label: {**baselines, **({VARIED: b.rows[label].varies} if b.rows[label].varies in outcomes else {})}
        for label in outcomes
    }
    for stratum in STRATA:
        chosen = first.strata[stratum]
        counts["targets"][stratum] = int(chosen.sum())
        if not chosen.any():
            continue
        wanted = WITH_INTERVAL if stratum == "all" else {METRIC: "full"}
        columns: dict[tuple[str, str, str], Floats] = {}
        for label, one in outcomes.items():
            columns |= {(label, "value", name): one.values[name] for name in wanted if name in one.values}
            for name, base in compared[label].items():
                if base != label:
                    columns[label, "gain", name] = one.values[METRIC] - outcomes[base].values[METRIC]
        values = np.stack(list(columns.values()), axis=1)[chosen]
        # All columns see the same resamples of users, seeds averaged before.
        interval = clustered(values, first.users[chosen], b.confidence, b.resamples)
        counts["users"][stratum] = interval.users
        for place, (label, kind, name) in enumerate(columns):
            told = _told(interval, place)
            if kind == "gain":
                rows[label]["gain"].setdefault(name, {})[stratum] = told
            else:
                rows[label]["interval"][f"{name} {stratum}"] = told
    return counts


def _told(interval: Any, place: int) -> dict[str, float | None]:
    low, high = float(interval.low[place]), float(interval.high[place])
    known = np.isfinite(low) and np.isfinite(high)
    return {"mean": float(interval.mean[place]), "low": low if known else None, "high": high if known else None}


@dataclass(frozen=True)
class _Outcome:
    """Test targets of a row: users and targets int64 [N], strata bool [N] by name, values by column, means over seeds
    [N]."""

    users: NDArray[np.integer]
    targets: NDArray[np.int64]
    strata: dict[str, NDArray[np.bool_]]
    values: dict[str, Floats]


def _outcome(of_row: Sequence[Run], built: Built, split: str) -> _Outcome:
    from hmar.evaluate import metrics
    from hmar.evaluate import per_target as outcome
    from hmar.evaluate.strata import among

    tables = [outcome.read(per_target(one.directory, built.id, split)) for one in of_row]
    values = {}
    for name, candidates in WITH_INTERVAL.items():
        metric = name.split()[0]
        values[name] = np.mean([metrics.of_ranks(outcome.ranks(rows, candidates), metric) for rows in tables], axis=0)
    first = tables[0]
    return _Outcome(
        users=first.column("user").to_numpy(),
        targets=first.column("target").to_numpy(),
        strata=among(
            *(first.column(name).to_numpy() for name in ("repeat", "cold_user", "cold_item", "history_length"))
        ),
        values=values,
    )


# -- labelled impressions --------------------------------------------------------------------------------------------


def _shown(
    b: BenchmarkSettings,
    built: Built,
    split: str,
    by_row: Mapping[str, Sequence[Run]],
    baselines: Mapping[str, str],
    rows: Mapping[str, dict[str, Any]],
) -> None:
    """Put what labelled impressions say into ``rows``, where the snapshot has them: GAUC, MRR and NDCG are means over
    users, so they have intervals of the mean over seeds; AUC is not, and has none here."""
    from hmar.evaluate.intervals import of_sums

    found = {label: _users(of_row, built, split) for label, of_row in by_row.items()}
    tables = {label: users for label, users in found.items() if users is not None and len(users.weight)}
    if not tables:
        return
    weight = next(iter(tables.values())).weight
    for metric in ("gauc", "mrr", "ndcg"):
        counts = weight if metric == "gauc" else np.ones(len(weight))
        columns: dict[tuple[str, str, str], Floats] = {}
        for label, users in tables.items():
            columns[label, "interval", metric] = users.values[metric]
            for name, base in baselines.items():
                if base != label and base in tables:
                    columns[label, "gain", name] = users.values[metric] - tables[base].values[metric]
        sums = np.stack(list(columns.values()), axis=1) * counts[:, None]
        interval = of_sums(sums, counts, b.confidence, b.resamples)
        for place, (label, kind, name) in enumerate(columns):
            of = rows[label].setdefault("impressions", {"interval": {}, "gain": {}, "users": interval.users})
            told = _told(interval, place)
            if kind == "gain":
                of["gain"].setdefault(name, {})[metric] = told
            else:
                of["interval"][name] = told


@dataclass(frozen=True)
class _Users:
    """Users with impressions of both labels: their impressions float64 [U], and values by metric, means over seeds."""

    weight: Floats
    values: dict[str, Floats]


def _users(of_row: Sequence[Run], built: Built, split: str) -> _Users | None:
    from hmar.evaluate import per_target as outcome

    files = [evaluation_directory(one.directory / "evaluation", built.id, split) / "impressions_test.parquet"
             for one in of_row]  # fmt: skip
    if not all(file.is_file() for file in files):
        return None
    tables: list[pa.Table] = [outcome.read(file) for file in files]
    judged = tables[0].column("auc").is_valid().to_numpy(zero_copy_only=False)
    values = {
        name: np.mean([rows.column(column).to_numpy(zero_copy_only=False)[judged] for rows in tables], axis=0)
        for name, column in {"gauc": "auc", "mrr": "mrr", "ndcg": "ndcg"}.items()
    }
    return _Users(tables[0].column("impressions").to_numpy()[judged].astype(np.float64), values)
