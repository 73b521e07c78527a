"""What a report says, gathered from what the stages left: manifests, metrics, training histories, tags."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hmar import __version__
from hmar.atomic import read_json
from hmar.data.snapshot import Snapshot
from hmar.evaluate.names import LENGTH_STRATA
from hmar.tracking.client import public, service_errors
from hmar.tracking.environment import ENVIRONMENT_TAGS
from pipeline.checks.judge import first_page
from pipeline.doubts import doubts
from pipeline.judged import number, read_report
from pipeline.kept import known_now, masked, read_kept
from pipeline.registry import Registry, own_tags, quiet_client
from pipeline.report import figures
from pipeline.report.density import density
from pipeline.report.tables import strata_table, tables, target_counts
from pipeline.results import Built, Evaluated, Promoted
from pipeline.settings import RetrainSettings
from pipeline.stages.recommend import FILE, counts, written_at
from pipeline.stages.register import nominee

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

SHOWN_USERS = 5
SHOWN_ITEMS = 10


def gather(
    s: RetrainSettings, run: str, built: Built, evaluated: list[Evaluated], promoted: Promoted
) -> dict[str, Any]:
    """All that the template shows.

    Raises:
        DataError: something a stage should have left is missing. ServiceError: MLflow does not answer.
    """
    snapshot = Snapshot(built.snapshot)
    reports = {one.model: read_report(one.directory, built.id, s.split) for one in evaluated}
    metrics = {model: report["metrics"] for model, report in reports.items()}
    kept = read_kept(s, run, built) or known_now(s, built)
    trainings = [_training(one, reports[one.model], environment(s, one.mlflow_run)) for one in evaluated]
    best = nominee(evaluated, s.promote.metric, s.models)
    protocol = _protocol(s, built, trainings)
    decision = _decision(s, best, promoted)
    recommended = _recommendations(s, built, snapshot, decision["champion"], decision["champion_model"])
    return {
        "run": run,
        "made_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "dataset": s.name,
        "preset": s.dataset,
        "split": s.split,
        "metric": s.promote.metric,
        "nominee": best.model,
        "rows": kept.rows,
        "data_checks": kept.checks,
        "data_docs": first_page(s.paths.data_docs(s.name)),
        "snapshot": _snapshot(snapshot, s.split),
        "behavior_figure": figures.bars(
            {name: snapshot.manifest.behavior_counts.get(name, 0) for name in snapshot.behaviors}
        ),
        "tables": tables(s, metrics, protocol),
        "strata": strata_table(s, metrics, protocol),
        "target_counts": target_counts(metrics),
        "trainings": trainings,
        "figures": _figures(evaluated, metrics),
        "decision": decision,
        "recommendations": recommended,
        "doubts": doubts(evaluated, s.promote.metric, recommended.get("users")),
        "settings": _lines(masked(kept.settings)),
        "snapshot_settings": _lines(masked(snapshot.manifest.settings)),
        "tracking": public(s.mlflow_uri),
        "version": __version__,
    }


def _protocol(s: RetrainSettings, built: Built, trainings: list[dict[str, Any]]) -> str:
    seeds = sorted({str(one["seed"]) for one in trainings})
    devices = sorted({one["device"] for one in trainings})
    seconds = sum(one["seconds"] for one in trainings) + sum(one["judged_seconds"] for one in trainings)
    codes = sorted({one["environment"].get("version", "") for one in trainings} - {""})
    code = f"code {', '.join(codes)}, " if codes else ""
    return (
        f"Snapshot {built.id}, split {s.split}, {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}, "
        f"{code}{clock(seconds)} of training and judging on {', '.join(devices)}; "
        f"{s.promote.confidence:.0%} bootstrap intervals over users; equal scores count against the model."
    )


def _snapshot(snapshot: Snapshot, split: str) -> dict[str, Any]:
    manifest = snapshot.manifest
    offsets = snapshot.offsets
    lengths = offsets[1:] - offsets[:-1]
    parts = {part: len(snapshot.targets(split, part)) for part in ("validation", "test")}
    return {
        "id": manifest.id,
        "path": snapshot.path,
        "users": manifest.users,
        "items": manifest.items,
        "events": manifest.events,
        "behaviors": manifest.behaviors,
        "target": manifest.target,
        "repeats": manifest.repeats,
        "mean_length": float(lengths.mean()) if len(lengths) else 0.0,
        "longest": int(lengths.max()) if len(lengths) else 0,
        "density": density(snapshot),
        "accounts": manifest.accounts,
        "targets": parts,
        "code_version": manifest.code_version,
    }


def _training(one: Evaluated, report: dict[str, Any], made_by: dict[str, str]) -> dict[str, Any]:
    from hmar.train.directory import read_record

    record = read_record(one.directory)
    settings = json.loads((one.directory / "settings.json").read_text(encoding="utf-8"))
    history = _history(one.directory)
    return {
        "model": one.model,
        "mlflow_run": one.mlflow_run,
        "directory": one.directory,
        "epochs": record.epochs,
        "best_epoch": record.best_epoch,
        "best_metric": record.best_metric,
        "metric": record.metric,
        "seconds": sum(row.get("seconds", 0) + (row.get("validation_seconds") or 0) for row in history),
        "judged_seconds": float(report["made"].get("seconds", 0)),
        "device": str(report["made"].get("device", "")),
        "seed": settings.get("seed", 0),
        "settings": _lines(masked(settings)),
        "environment": made_by,
    }


def environment(s: RetrainSettings, mlflow_run: str) -> dict[str, str]:
    """What a training ran in, as its MLflow run says: version, device, threads, torch, python, commit.

    Raises:
        ServiceError: MLflow does not answer, or does not know the run.
    """
    client = quiet_client(s.mlflow_uri)
    with service_errors(s.mlflow_uri):
        tags = client.get_run(mlflow_run).data.tags
    return {key.rpartition(".")[2]: tags[key] for key in ENVIRONMENT_TAGS if tags.get(key)}


def _history(directory: Path) -> list[dict[str, Any]]:
    """The rows of history.json, one per epoch; a rule has none."""
    rows = read_json(directory / "history.json")
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _figures(evaluated: list[Evaluated], metrics: dict[str, dict[str, float]]) -> list[dict[str, str]]:
    histories = {one.model: _history(one.directory) for one in evaluated}
    loss = {model: [(row["epoch"], row["loss"]) for row in rows] for model, rows in histories.items()}
    validation = {
        model: [(row["epoch"], row["validation"]["ndcg@10"]) for row in rows if row.get("validation")]
        for model, rows in histories.items()
    }
    lengths = {
        model: {
            stratum.removeprefix("length_"): (found.value, found.low, found.high)
            for stratum in LENGTH_STRATA
            if (found := number(values, f"test/full/{stratum}/hr@10"))
            and found.low is not None
            and found.high is not None
        }
        for model, values in metrics.items()
    }
    buckets = [stratum.removeprefix("length_") for stratum in LENGTH_STRATA]
    drawn = [
        {"title": "Training loss", "svg": figures.curves(loss, "training loss")},
        {"title": "NDCG@10 on the validation targets", "svg": figures.curves(validation, "validation NDCG@10")},
        {"title": "HR@10 by history length", "svg": figures.by_length(lengths, buckets, "test HR@10")},
    ]
    return [figure for figure in drawn if figure["svg"]]


def _decision(s: RetrainSettings, best: Evaluated, promoted: Promoted) -> dict[str, Any]:
    registry = Registry(s)
    version = registry.of_run(best.mlflow_run)
    tags = own_tags(version) if version else {}
    champion = _champion_after(registry, version, promoted)
    return {
        "name": registry.name,
        "version": str(version.version) if version else "",
        "model": best.model,
        "promoted": promoted.promoted,
        "reason": promoted.reason,
        "gain": promoted.gain,
        "interval": promoted.interval,
        "champion": str(champion.version) if champion else "",
        "champion_model": own_tags(champion).get("model", "") if champion else "",
        "compared_with": tags.get("compared_with", ""),
        "users": tags.get("users", ""),
        "decided_at": tags.get("decided_at", ""),
        "confidence": float(tags.get("confidence", s.promote.confidence)),
    }


def _champion_after(registry: Registry, version: "ModelVersion | None", promoted: Promoted) -> "ModelVersion | None":
    """Who was champion when the run had decided: a later run may have put another in its place."""
    number = ""
    if version is not None:
        number = str(version.version) if promoted.promoted else own_tags(version).get("compared_with", "")
    number = number or promoted.champion
    return registry.version(number) if number else None


def _recommendations(s: RetrainSettings, built: Built, snapshot: Snapshot, champion: str, model: str) -> dict[str, Any]:
    """What the run's champion recommends on the run's snapshot."""
    import pyarrow.parquet as pq

    path = written_at(s, built, champion)
    if not path.is_file():
        return {}
    users, rows = counts(path)
    size = SHOWN_USERS * s.recommend.k
    head = next(pq.ParquetFile(path).iter_batches(batch_size=max(size, 1)), None)
    found: dict[Any, list[dict[str, Any]]] = {}
    for row in head.to_pylist() if head is not None else []:
        found.setdefault(row["user_id"], []).append(row)
    shown = dict(list(found.items())[:SHOWN_USERS])
    return {
        "users": users,
        "rows": rows,
        "champion": champion,
        "model": model,
        "file": path.parent.name + "/" + FILE,
        "shown": {user: rows[:SHOWN_ITEMS] for user, rows in shown.items()},
        "histories": {user: _last_events(snapshot, _place(snapshot, user)) for user in shown},
    }


def _place(snapshot: Snapshot, user: Any) -> int:
    """Dense id of a user; users whom nothing is left to recommend to are not in the file."""
    import pyarrow.compute as pc

    return int(pc.index(snapshot.users.column("user_id"), user).as_py())


def _last_events(snapshot: Snapshot, user: int, n: int = 5) -> list[str]:
    """The newest events of dense user ``user``, newest first, as 'behavior item'."""
    start, end = int(snapshot.offsets[user]), int(snapshot.offsets[user + 1])
    ids = snapshot.items.column("item_id")
    rows = range(end - 1, max(start, end - n) - 1, -1)
    return [f"{snapshot.behaviors[int(snapshot.behavior[row])]} {ids[int(snapshot.item[row])].as_py()}" for row in rows]


def _lines(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as 'a.b: value' lines."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _lines(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(value, ensure_ascii=False)
    return flat


def clock(seconds: float) -> str:
    """Seconds for people: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
