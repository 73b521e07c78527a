"""The price list of HMAR's published protocol: what each of its leaks is worth, one table per dataset.

    python -m benchmarks.hmar_leaks --dataset movielens --raw path/to/ml-100k --ties file \\
        --out benchmarks/results/hmar_leaks-ml-100k
    python -m benchmarks.hmar_leaks --dataset taobao --raw path/to/UserBehavior.csv --epochs 60

Rows: the protocol as published; each of its quirks taken back alone (benchmarks/leak_variants.py); all of them; all of
them on the split leave_one_out. Every row has several seeds, and beside it what rules without weights get from the
same candidates. A price is the published row less the row without the leak, paired over users. OUT.md, OUT.csv,
OUT.json, OUT.png and an MLflow run are the result; trainings that are there already are not repeated.
"""

import hashlib
import json
import platform
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from benchmarks import leak_table
from benchmarks.leak_prices import Outcomes, means, prices
from benchmarks.leak_variants import LAST_EPOCH, MODEL, Variant, chosen
from benchmarks.published import in_file_order
from benchmarks.tables import command, keep, run_benchmark
from pipeline.results import Built, Published
from pipeline.settings import RetrainSettings

DONE = "price.json"
"""In a training's directory, when it is judged: how long both took."""


class LeaksSettings(RetrainSettings):
    """Price every leak of HMAR's published protocol on one log; write Markdown, CSV, JSON and a plot, log to MLflow."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """One training per row and seed."""
    epochs: int = Field(120, ge=1)
    """Of each training, the chosen one being among them."""
    jobs: int = Field(1, ge=1)
    """Trainings at a time, of one thread each."""
    ties: Literal["file", "neutral"] = "neutral"
    """The order of what a user did in one second; file: as in MovieLens 100K's file (benchmarks/published.py)."""
    confidence: float = Field(0.95, gt=0, lt=1)
    resamples: int = Field(2000, ge=100)
    out: Path = Path("benchmarks/results/hmar_leaks")
    """Without an ending."""


@dataclass(frozen=True)
class Task:
    """One training: a row with one seed."""

    variant: Variant
    seed: int
    settings: RetrainSettings
    built: Built

    @property
    def run(self) -> str:
        """Other settings are another training: it must not continue this one."""
        from pipeline.training import training_values

        values = training_values(self.settings, MODEL, self.built.snapshot, "")
        decisive = {key: value for key, value in values.items() if key not in ("out", "tracking", "snapshot")}
        digest = hashlib.sha256(json.dumps([self.built.id, decisive], sort_keys=True).encode()).hexdigest()[:8]
        return f"leaks-{self.variant.name}-{self.seed}-{digest}"

    @property
    def directory(self) -> Path:
        return self.settings.paths.training(self.run, MODEL)


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    given = ["--protocol", "published", "--models", MODEL, *arguments]
    return run_benchmark(
        lambda: LeaksSettings.resolve(arguments=given, program="python -m benchmarks.hmar_leaks"), _work
    )


def _work(s: LeaksSettings) -> None:
    result = measure(s)
    text = leak_table.markdown(result)
    keep(s.out, result, text)
    files = leak_table.beside(s.out, result)
    _log(s, result, [*files, s.out.with_suffix(".md"), s.out.with_suffix(".json")])
    print(text)


def measure(s: LeaksSettings) -> dict[str, Any]:
    """All trainings, and what the table is made of.

    Raises:
        HmarError: of the stage that failed.
    """
    from pipeline.preflight import check
    from pipeline.stages.ingest import land
    from pipeline.stages.validate import validate

    quick = {"max_epochs": s.epochs, "threads": 1, "log_seconds": 300, **s.train}
    s = s.model_copy(update={"train": quick})
    check(s, promotes=False)
    rows = chosen(s)
    logs = {"neutral": s}
    if s.ties == "file":
        raw = in_file_order(s.raw, s.paths.root / "in-file-order")
        logs["file"] = s.model_copy(update={"raw": raw, "name": f"{s.name}-lines"})
    events = {ties: (log, validate(log, land(log))) for ties, log in logs.items()}
    tasks = _tasks(s, rows, events)
    of_row = {row.name: [task for task in tasks if task.variant is row] for row in rows}
    with ThreadPoolExecutor(s.jobs) as pool:
        list(pool.map(_train, (task for task in tasks if task.variant.name != LAST_EPOCH)))
        of_row[LAST_EPOCH] = list(pool.map(_last, of_row[LAST_EPOCH], of_row[rows[0].name]))
    return {
        "about": _about(s, of_row[rows[0].name][0]),
        "rows": _rows(s, rows, of_row),
    }


def _tasks(
    s: LeaksSettings, rows: tuple[Variant, ...], events: Mapping[str, tuple[LeaksSettings, Published]]
) -> list[Task]:
    """All rows with the first seed, then all with the next: an interrupted benchmark has whole columns.

    In the file's order, times are made up, line by line: only the split published, which reads no times, can be had
    from them. The row of another split has the log as it is.
    """
    from pipeline.stages.snapshot import build

    own = {row.name: events[s.ties if row.split == "published" else "neutral"] for row in rows}
    built = {row.name: build(row.settings(own[row.name][0], 0), own[row.name][1]) for row in rows}
    return [Task(row, seed, row.settings(own[row.name][0], seed), built[row.name]) for seed in s.seeds for row in rows]


def _train(task: Task) -> None:
    """Train and judge, unless both were done before."""
    from pipeline.stages.evaluate import evaluate
    from pipeline.stages.train import train
    from pipeline.storage.atomic import write_json

    done = task.directory / DONE
    if done.is_file():
        return
    print(f"{task.variant.label}, seed {task.seed}", flush=True)
    started = time.monotonic()
    evaluate(task.settings, task.built, train(task.settings, task.built, MODEL, task.run))
    write_json(done, {"seconds": round(time.monotonic() - started, 1)})


def _last(task: Task, published: Task) -> Task:
    """The training whose last weights count: the published one where its last epoch was its best, since how often a
    training is judged changes none of its weights."""
    from hmar.train.directory import read_record

    record = read_record(published.directory)
    if record.best_epoch == record.epochs:
        return published
    _train(task)
    return task


def _rows(s: LeaksSettings, rows: tuple[Variant, ...], of_row: Mapping[str, list[Task]]) -> dict[str, Any]:
    """Per row: leaks that are left, chosen epochs, seconds, values with prices, and the rules."""
    from hmar.train.directory import read_record

    made = {row.name: _outcomes(of_row[row.name]) for row in rows}
    found = {}
    for row in rows:
        tasks = of_row[row.name]
        records = [read_record(task.directory) for task in tasks]
        seconds = [json.loads((task.directory / DONE).read_text(encoding="utf-8"))["seconds"] for task in tasks]
        found[row.name] = {
            "label": row.label,
            "note": row.note,
            "split": row.split,
            "snapshot": tasks[0].built.id,
            "leaks": [leak for leak in records[0].leaks if (row.name, leak) != (LAST_EPOCH, "select_on=test")],
            "best_epochs": [record.best_epoch for record in records],
            "epochs": [record.epochs for record in records],
            "seconds": seconds,
            "users": len(set(made[row.name].user.tolist())),
            "values": prices(made[row.name], made[rows[0].name], s.confidence, s.resamples),
            "rules": _rules(tasks[0]),
        }
    return found


def _outcomes(tasks: list[Task]) -> Outcomes:
    from hmar.evaluate import per_target
    from pipeline.judged import per_target as where

    return Outcomes([per_target.read(where(task.directory, task.built.id, task.settings.split)) for task in tasks])


def _rules(task: Task) -> dict[str, dict[str, float | None]]:
    from benchmarks.leak_rules import RULES, outcome
    from hmar.data.snapshot import Snapshot
    from pipeline.training import training_settings

    built, split = task.built, task.settings.split
    longest = training_settings(task.settings, "recent", built.snapshot, "leaks").max_length
    kept = task.settings.paths.root / "rules" / built.id / split
    snapshot = Snapshot(built.snapshot)
    return {
        name: means(Outcomes([outcome(name, snapshot, split, longest, kept / f"{name}.parquet")])) for name in RULES
    }


def _about(s: LeaksSettings, task: Task) -> dict[str, Any]:
    """What a number is worth nothing without."""
    import torch

    from hmar.data.snapshot import Snapshot

    manifest = Snapshot(task.built.snapshot).manifest
    return {
        "dataset": task.settings.name,
        "users": manifest.users,
        "items": manifest.items,
        "events": manifest.events,
        "behaviors": manifest.behavior_counts,
        "target": manifest.target,
        "repeats": manifest.repeats,
        "candidates": manifest.candidates,
        "ties": s.ties,
        "seeds": list(s.seeds),
        "epochs": s.epochs,
        "confidence": s.confidence,
        "resamples": s.resamples,
        "code_version": manifest.code_version,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, CPU, 1 thread per training, {s.jobs} at a time",
        "command": command("benchmarks.hmar_leaks", s, ("dataset", "raw", "epochs"), ("seeds", "ties", "overrides")),
    }


def _log(s: LeaksSettings, result: Mapping[str, Any], files: list[Path]) -> None:
    """One MLflow run per table, found again when the table is made again."""
    from hmar import leaks
    from hmar.evaluate.names import tracked
    from hmar.tracking.run import Point, TrackedRun

    rows, about = result["rows"], result["about"]
    first = next(iter(rows.values()))
    run = TrackedRun.open(
        s.mlflow_uri,
        experiment=f"hmar-{about['dataset']}-leaks",
        identity=f"leaks {first['snapshot']} {about['epochs']} {about['seeds']}",
        name=f"price of leaks, {about['dataset']}",
        artifacts="" if s.tracking_uri else str(s.paths.mlflow_artifacts),
        tags=leaks.tags(first["leaks"]),
    )
    points = []
    for name, row in rows.items():
        for metric, value in row["values"].items():
            if value["mean"] is not None:
                points.append(Point(tracked(f"{name}/test/{metric}", row["leaks"]), value["mean"]))
            if value["price"] is not None:
                points.append(Point(tracked(f"price/{name}/test/{metric}", first["leaks"]), value["price"]))
    run.log_params({key: about[key] for key in ("dataset", "seeds", "epochs", "ties", "code_version")})
    run.log_metrics(points)
    for file in files:
        run.log_file(file)
    run.finish("FINISHED")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
