"""What a report says, gathered from what the stages left: manifests, metrics, training histories, tags."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hmar import __version__
from hmar.data.snapshot import Snapshot
from hmar.evaluate.names import LENGTH_STRATA
from hmar.tracking.client import public
from hmar.tracking.environment import environment_tags
from pipeline.checks.judge import first_page
from pipeline.judged import read_report
from pipeline.registry import CHAMPION, Registry, own_tags
from pipeline.report import figures
from pipeline.report.tables import number, strata_table, tables, target_counts
from pipeline.results import Built, Evaluated, Promoted
from pipeline.settings import RetrainSettings
from pipeline.stages.recommend import FILE, read_latest
from pipeline.stages.register import nominee
from pipeline.storage.events_store import EventsManifest, read_manifest

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
    events = read_manifest(s.paths.events(s.name))
    trainings = [_training(one, reports[one.model]) for one in evaluated]
    best = nominee(evaluated, s.promote.metric, s.models)
    protocol = _protocol(s, built, trainings)
    return {
        "run": run,
        "made_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "dataset": s.name,
        "preset": s.dataset,
        "split": s.split,
        "metric": s.promote.metric,
        "nominee": best.model,
        "events": _events(events),
        "data_checks": data_checks(s.paths.data_docs(s.name)),
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
        "decision": _decision(s, best, promoted),
        "recommendations": _recommendations(s, snapshot),
        "settings": _lines(s.model_dump(mode="json")),
        "environment": {key.removeprefix("hmar."): value for key, value in environment_tags("", 0).items() if value},
        "tracking": public(s.mlflow_uri),
        "version": __version__,
    }


def data_checks(project: Path) -> list[dict[str, Any]]:
    """The expectations of the last validation: name, expected, found, success, why."""
    from pipeline.stages.validate import RESULT

    try:
        found = json.loads((project / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return list(found["checks"])


def _protocol(s: RetrainSettings, built: Built, trainings: list[dict[str, Any]]) -> str:
    seeds = sorted({str(one["seed"]) for one in trainings})
    devices = sorted({one["device"] for one in trainings})
    seconds = sum(one["seconds"] for one in trainings) + sum(one["judged_seconds"] for one in trainings)
    return (
        f"Snapshot {built.id}, split {s.split}, {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}, "
        f"code {__version__}, {clock(seconds)} of training and judging on {', '.join(devices)}; "
        f"{s.promote.confidence:.0%} bootstrap intervals over users; equal scores count against the model."
    )


def _events(events: EventsManifest) -> dict[str, Any]:
    partitions = events.partitions
    return {
        "source": events.source,
        "accounts": events.accounts,
        "inputs": events.inputs,
        "behaviors": events.behaviors,
        "outside_window": events.outside_window,
        "first": f"{min(p.min_time for p in partitions):%Y-%m-%d %H:%M}" if partitions else "",
        "last": f"{max(p.max_time for p in partitions):%Y-%m-%d %H:%M}" if partitions else "",
        "partitions": len(partitions),
        "digest": events.digest,
    }


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
        "density": manifest.events / max(manifest.users * manifest.items, 1),
        "accounts": manifest.accounts,
        "targets": parts,
        "code_version": manifest.code_version,
    }


def _training(one: Evaluated, report: dict[str, Any]) -> dict[str, Any]:
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
        "settings": _lines(settings),
    }


def _history(directory: Path) -> list[dict[str, Any]]:
    """The rows of history.json, one per epoch; a rule has none."""
    try:
        rows = json.loads((directory / "history.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
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
    champion = registry.by_alias(CHAMPION)
    tags = own_tags(version) if version else {}
    return {
        "name": registry.name,
        "version": str(version.version) if version else "",
        "model": best.model,
        "promoted": promoted.promoted,
        "reason": promoted.reason,
        "gain": promoted.gain,
        "interval": promoted.interval,
        "champion": str(champion.version) if champion else promoted.champion,
        "champion_model": own_tags(champion).get("model", "") if champion else "",
        "compared_with": tags.get("compared_with", ""),
        "users": tags.get("users", ""),
        "decided_at": tags.get("decided_at", ""),
        "confidence": s.promote.confidence,
    }


def _recommendations(s: RetrainSettings, snapshot: Snapshot) -> dict[str, Any]:
    import pyarrow.parquet as pq

    latest = read_latest(s)
    if latest is None:
        return {}
    path = s.paths.recommendations(s.name) / str(latest["path"])
    if not path.is_file():
        return {}
    size = SHOWN_USERS * int(str(latest["k"]))
    head = next(pq.ParquetFile(path).iter_batches(batch_size=max(size, 1)), None)
    users: dict[Any, list[dict[str, Any]]] = {}
    for row in head.to_pylist() if head is not None else []:
        users.setdefault(row["user_id"], []).append(row)
    shown = dict(list(users.items())[:SHOWN_USERS])
    return {
        **latest,
        "file": path.parent.name + "/" + FILE,
        "shown": {user: rows[:SHOWN_ITEMS] for user, rows in shown.items()},
        "histories": {user: _last_events(snapshot, place) for place, user in enumerate(shown)},
    }


def _last_events(snapshot: Snapshot, user: int, n: int = 5) -> list[str]:
    """The newest events of dense user ``user``, newest first, as 'behavior item'."""
    start, end = int(snapshot.offsets[user]), int(snapshot.offsets[user + 1])
    ids = snapshot.items.column("item_id")
    rows = range(end - 1, max(start, end - n) - 1, -1)
    return [f"{snapshot.behaviors[int(snapshot.behavior[row])]} {ids[int(snapshot.item[row])].as_py()}" for row in rows]


def _lines(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as 'a.b: value' lines; addresses without passwords."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _lines(value, f"{prefix}{key}.")
        elif key in ("tracking_uri", "uri"):
            flat[prefix + key] = public(str(value))
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
