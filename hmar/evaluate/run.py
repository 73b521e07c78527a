"""One evaluation from directory to directory: load, judge, write, log. Finished work is recognized and kept.

<out>/<snapshot id>/<split>/per_target_<part>.parquet   see hmar.evaluate.per_target
<out>/<snapshot id>/<split>/impressions_<part>.parquet  per user, where the snapshot has labelled impressions: see
                                                        hmar.evaluate.impressions
<out>/<snapshot id>/<split>/explained.json              what carries recommendations, see hmar.explain.sample
<out>/<snapshot id>/<split>/{spaces,head_pairs}*.json   of ATRank and DFAR: see hmar.explain.case_studies
<out>/<snapshot id>/<split>/plots/*.png
<out>/<snapshot id>/<split>/metrics.json                {inputs, leaks, parts, metrics, files: {name: sha256}, made};
                                                        last
<out>/<snapshot id>/<split>/logged.json                 the MLflow run that has the results
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hmar import __version__, leaks
from hmar.atomic import write_json
from hmar.data.counting import PriorCounts
from hmar.data.snapshot import PARTS, Part, Snapshot
from hmar.errors import DataError
from hmar.evaluate import impressions, per_target, plots
from hmar.evaluate.adapt import adapt
from hmar.evaluate.impressions import judge_impressions, summarize_impressions
from hmar.evaluate.judge import judge
from hmar.evaluate.names import tracked
from hmar.evaluate.settings import EvaluateSettings
from hmar.evaluate.summary import summarize
from hmar.export import FILES, LoadedModel, load
from hmar.models.base import Recommender
from hmar.threads import limit_threads
from hmar.train.directory import read_record

Advance = Callable[[str, int, int], None]
"""Called with part, targets done and all targets of the part."""


@dataclass(frozen=True)
class Evaluation:
    """What stands on the disk now."""

    directory: Path
    model: str
    split: str
    parts: tuple[str, ...]
    leaks: tuple[str, ...]
    metrics: dict[str, float]
    reused: bool
    mlflow_run: str


def evaluate(settings: EvaluateSettings, advance: Advance | None = None) -> Evaluation:
    """Judge the model on the parts that were not judged before with the same inputs.

    Raises:
        DataError: no exported model or snapshot there, or they do not fit each other.
        ModelError: NaN scores.
        StorageError: the disk refused. ServiceError: MLflow does not answer; what was judged is kept.
    """
    loaded = load(settings.exported)
    snapshot = Snapshot(settings.snapshot)
    split = settings.split or loaded.meta.split
    directory = settings.results / snapshot.manifest.id / split
    inputs = _inputs(settings, snapshot, split)
    known = leaks.together(loaded.meta.leaks, leaks.of_split(snapshot, split))
    report = _finished(directory, inputs, known)
    missing = [part for part in settings.parts if part not in report["parts"]]
    if missing:
        report = _judge(settings, loaded, snapshot, split, directory, missing, report, advance)
    run = _log(settings, loaded, snapshot, split, directory, report) if settings.track else ""
    return Evaluation(
        directory=directory,
        model=loaded.meta.model,
        split=split,
        parts=settings.parts,
        leaks=tuple(report["leaks"]),
        metrics=report["metrics"],
        reused=not missing,
        mlflow_run=run,
    )


def _inputs(settings: EvaluateSettings, snapshot: Snapshot, split: str) -> dict[str, Any]:
    """All that the results follow from; device and threads are not among them."""
    return {
        "model": {name: _sha256(settings.exported / name) for name in FILES},
        "snapshot": snapshot.manifest.id,
        "split": split,
        "confidence": settings.confidence,
        "resamples": settings.resamples,
        "seed": settings.seed,
        "explain_users": settings.explain_users,
        "hmar_version": __version__,
    }


def _finished(directory: Path, inputs: dict[str, Any], known: tuple[str, ...]) -> dict[str, Any]:
    """The report that stands there whole and follows from ``inputs``; one without parts where there is none.

    Args:
        known: the leaks of such a report.
    """
    nothing: dict[str, Any] = {"inputs": inputs, "leaks": list(known), "parts": [], "metrics": {}, "files": {}}
    nothing["made"] = {"seconds": 0.0}
    try:
        report: dict[str, Any] = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
        whole = report["inputs"] == inputs and report["leaks"] == list(known)
        whole = whole and all(_sha256(directory / name) == digest for name, digest in report["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return nothing
    return report if whole else nothing


def _judge(
    settings: EvaluateSettings,
    loaded: LoadedModel,
    snapshot: Snapshot,
    split: str,
    directory: Path,
    parts: list[Part],
    before: dict[str, Any],
    advance: Advance | None,
) -> dict[str, Any]:
    """Judge ``parts`` and write them beside what ``before`` says is there."""
    started = time.monotonic()
    device = choose_device(settings.device)
    limit_threads(settings.threads)
    model = adapt(loaded, snapshot).to(device)
    prior = PriorCounts(snapshot)
    metrics: dict[str, float] = {}
    files: list[Path] = []
    for part in parts:
        total = len(snapshot.targets(split, part))
        judgement = judge(
            model,
            snapshot,
            split,
            part,
            max_length=loaded.meta.max_length,
            memory_mb=settings.memory_mb,
            prior=prior,
            advance=_of_part(advance, part, total),
        )
        summary = summarize(judgement, snapshot, settings.confidence, settings.resamples, settings.seed)
        metrics |= summary
        rows = per_target.table(judgement, snapshot, before["leaks"])
        files.append(per_target.write(rows, directory / f"per_target_{part}.parquet"))
        files.append(plots.write(plots.hr_by_length(summary, part), directory / f"plots/hr_by_length_{part}.png"))
        files.append(plots.write(plots.metric_bars(summary, part), directory / f"plots/metrics_{part}.png"))
        if snapshot.has_impressions(split) and model.published is None:
            for task in dict.fromkeys(("", *impressions.learned(loaded.model, snapshot, split))):
                shown = judge_impressions(
                    model, snapshot, split, part, max_length=loaded.meta.max_length, prior=prior, task=task
                )
                of_shown = summarize_impressions(shown, settings.confidence, settings.resamples, settings.seed)
                metrics |= of_shown
                rows = impressions.table(shown, snapshot, before["leaks"])
                files.append(per_target.write(rows, directory / f"{shown.candidates}_{part}.parquet"))
                figure = plots.hr_by_length(of_shown, part, "auc", candidates=shown.candidates)
                name = shown.candidates.replace("impressions", "auc_by_length", 1)
                files.append(plots.write(figure, directory / f"plots/{name}_{part}.png"))
    files += _explained(settings, loaded, model, snapshot, split, directory)
    mix = {name: snapshot.manifest.behavior_counts.get(name, 0) for name in snapshot.behaviors}
    files.append(plots.write(plots.behavior_mix(mix), directory / "plots/behaviors.png"))
    report = {
        "inputs": before["inputs"],
        "leaks": before["leaks"],
        "parts": sorted({*before["parts"], *parts}, key=PARTS.index),
        "metrics": before["metrics"] | metrics,
        "files": before["files"] | {str(path.relative_to(directory)): _sha256(path) for path in files},
        "made": {
            "model": loaded.meta.model,
            "dataset": snapshot.manifest.dataset,
            "device": device_name(device),
            "threads": torch.get_num_threads(),
            "seconds": round(before["made"]["seconds"] + time.monotonic() - started, 3),
        },
    }
    (directory / "logged.json").unlink(missing_ok=True)
    write_json(directory / "metrics.json", report)
    return report


def _explained(
    settings: EvaluateSettings, loaded: LoadedModel, model: Recommender, snapshot: Snapshot, split: str, directory: Path
) -> list[Path]:
    """What carries the recommendations of a sample of users, and the case studies of the model, written; nothing where
    none is wanted or there is nobody, or where the model has leaks and recommends nothing."""
    if settings.explain_users == 0 or model.published is not None:
        return []
    from hmar.explain import figures
    from hmar.explain.case_studies import case_studies
    from hmar.explain.sample import sample

    found = sample(model, snapshot, settings.explain_users, max_length=loaded.meta.max_length, seed=settings.seed)
    if found is None:
        return []
    told = f"{loaded.meta.model} on {snapshot.manifest.dataset}"
    drawn = {"explained": (found.describe(), figures.sampled(found))}
    for one in case_studies(loaded, model, snapshot, split, told, settings.seed):
        drawn[one.name] = (one.figures, one.picture)
    for name, (numbers, _) in drawn.items():
        write_json(directory / f"{name}.json", numbers)
    pictures = [plots.write(picture, directory / f"plots/{name}.png") for name, (_, picture) in drawn.items()]
    return [*(directory / f"{name}.json" for name in drawn), *pictures]


def _log(
    settings: EvaluateSettings,
    loaded: LoadedModel,
    snapshot: Snapshot,
    split: str,
    directory: Path,
    report: dict[str, Any],
) -> str:
    """Log to the training's run, once; its id, or empty where there is nothing to log to."""
    own = loaded.meta.snapshot == snapshot.manifest.id and loaded.meta.split == split
    if settings.training is None or not own:
        return ""
    run_id, uri = _run_of(settings.training, settings.tracking_uri)
    if not run_id:
        return ""
    marker = directory / "logged.json"
    if marker.is_file() and json.loads(marker.read_text(encoding="utf-8")).get("mlflow_run") == run_id:
        return run_id
    from hmar.tracking.run import Point, TrackedRun

    run = TrackedRun.attach(uri, run_id)
    run.log_metrics([Point(tracked(name, report["leaks"]), value) for name, value in report["metrics"].items()])
    run.set_tags(leaks.tags(report["leaks"]))
    run.log_file(directory / "metrics.json", "evaluation")
    for name in report["files"]:
        run.log_file(directory / name, "plots" if name.startswith("plots/") else "evaluation")
    write_json(marker, {"mlflow_run": run_id})
    return run_id


def _run_of(training: Path, uri: str) -> tuple[str, str]:
    """Run id (empty where the training was not tracked) and tracking address as the training wrote them down."""
    path = training / "settings.json"
    try:
        used = json.loads(path.read_text(encoding="utf-8"))["tracking"]["uri"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: no tracking address there ({error}); train the model again") from None
    return read_record(training).mlflow_run or "", uri or used


def choose_device(name: str) -> torch.device:
    """``auto`` is the GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """What a table says: the GPU's name, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _of_part(advance: Advance | None, part: str, total: int) -> Callable[[int], None] | None:
    if advance is None:
        return None
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        advance(part, done, total)

    return count


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
