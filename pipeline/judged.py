"""Reading what an evaluation left: metrics.json and the outcome per target."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hmar.errors import DataError
from hmar.evaluate.names import full_name
from pipeline.results import Built, Evaluated
from pipeline.settings import RetrainSettings


@dataclass(frozen=True)
class Number:
    """A metric and its interval; the interval is None where it was not computed."""

    value: float
    low: float | None = None
    high: float | None = None


def evaluation_directory(out: Path, snapshot_id: str, split: str) -> Path:
    """Where ``hmar.evaluate`` puts the results for one snapshot and split under its ``out``."""
    return out / snapshot_id / split


def read_report(training: Path, snapshot_id: str, split: str) -> dict[str, Any]:
    """metrics.json of a training's evaluation: ``metrics`` by full name, ``made`` (device, seconds), ``files``.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = evaluation_directory(training / "evaluation", snapshot_id, split) / "metrics.json"
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: not evaluated yet; run 'hmar evaluate'") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: unreadable ({error}); run 'hmar evaluate' again") from None
    return report


def per_target(training: Path, snapshot_id: str, split: str) -> Path:
    """The outcome per test target."""
    return evaluation_directory(training / "evaluation", snapshot_id, split) / "per_target_test.parquet"


def number(metrics: dict[str, float], name: str) -> Number | None:
    """The metric of this full name with its bounds; None where the stratum had no targets."""
    if name not in metrics:
        return None
    return Number(metrics[name], metrics.get(f"{name}/low"), metrics.get(f"{name}/high"))


def headline(metrics: dict[str, float]) -> dict[str, dict[str, float]]:
    """Full-ranking metrics over all targets, by part: {"test": {"ndcg@10": ...}}; interval bounds are left out."""
    found: dict[str, dict[str, float]] = {"validation": {}, "test": {}}
    for name, value in metrics.items():
        part, candidates, stratum, metric, *bound = name.split("/")
        if (candidates, stratum) == ("full", "all") and not bound and metric not in ("targets", "users"):
            found[part][metric] = value
    return found


def intervals(metrics: dict[str, float]) -> dict[str, dict[str, tuple[float, float]]]:
    """The bounds of what :func:`headline` finds: {"test": {"ndcg@10": (low, high)}}, where there are such."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for part, values in headline(metrics).items():
        found[part] = {}
        for metric in values:
            one = number(metrics, full_name(part, "full", "all", metric))
            if one is not None and one.low is not None and one.high is not None:
                found[part][metric] = (one.low, one.high)
    return found


def as_evaluated(s: RetrainSettings, built: Built, model: str, directory: Path, mlflow_run: str) -> Evaluated:
    """The stage's result, read back from its files."""
    report = read_report(directory, built.id, s.split)
    return Evaluated(
        model=model,
        directory=directory,
        mlflow_run=mlflow_run,
        leaks=tuple(report.get("leaks", ())),
        metrics=headline(report["metrics"]),
        intervals=intervals(report["metrics"]),
    )
