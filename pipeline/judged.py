"""Reading what an evaluation left: metrics.json and the outcome per target."""

import json
from pathlib import Path
from typing import Any

from hmar.errors import DataError
from pipeline.results import Built, Evaluated
from pipeline.settings import RetrainSettings


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
        named = {metric: f"{part}/full/all/{metric}" for metric in values}
        found[part] = {
            metric: (metrics[f"{name}/low"], metrics[f"{name}/high"])
            for metric, name in named.items()
            if f"{name}/low" in metrics
        }
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
