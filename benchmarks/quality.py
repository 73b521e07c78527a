"""Models times seeds on one log, through the stages of the pipeline, as one Markdown table with intervals.

    python -m benchmarks.quality --dataset movielens --raw path/to/ml-100k --out benchmarks/results/ml-100k

Raw log and snapshot are prepared once and shared by all runs; a training that is there already is not repeated, so an
interrupted benchmark goes on where it stopped. Models without weights run once: they do not depend on the seed.
"""

import hashlib
import json
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmarks.tables import keep
from hmar.errors import HmarError
from pipeline.results import Built, Evaluated
from pipeline.settings import RetrainSettings

COLUMNS = ("ndcg@10", "hr@10", "mrr")
"""Full ranking; the first has an interval and the comparison."""

SAMPLED = "hr@10"


class QualitySettings(RetrainSettings):
    """Train and judge models with several seeds; print a table, write it as Markdown and JSON."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """One training per trainable model and seed."""
    baseline: str = "popularity"
    """The model that the others are compared with, pairwise over users."""
    confidence: float = Field(0.95, gt=0, lt=1)
    resamples: int = Field(2000, ge=100)
    out: Path = Path("benchmarks/results/quality")
    """The table is written to OUT.md, all numbers to OUT.json."""


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    try:
        s = QualitySettings.resolve(arguments=arguments, program="python -m benchmarks.quality")
        started = time.monotonic()
        result = measure(s)
        result["seconds"] = time.monotonic() - started
    except HmarError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    text = markdown(result)
    keep(s.out, result, text)
    print(text)
    return 0


def measure(s: QualitySettings) -> dict[str, Any]:
    """All runs, and what the table is made of.

    Raises:
        HmarError: of the stage that failed.
    """
    from hmar.models import model_class
    from pipeline.preflight import check
    from pipeline.stages.ingest import land
    from pipeline.stages.snapshot import build
    from pipeline.stages.validate import validate

    check(s, promotes=False)
    published = validate(s, land(s))
    built = build(s, published)
    runs: dict[str, list[dict[str, Any]]] = {}
    for model in s.models:
        seeds = s.seeds if model_class(model).trainable else s.seeds[:1]
        runs[model] = [_run(s, built, model, seed) for seed in seeds]
    return {
        "about": about(s, built, published.accounts.model_dump()),
        "models": {model: summary(s, built, made, runs.get(s.baseline)) for model, made in runs.items()},
        "runs": {model: [{**made, "directory": Path(made["directory"]).name} for made in all_made]
                 for model, all_made in runs.items()},
    }  # fmt: skip


def _run(s: QualitySettings, built: Built, model: str, seed: int) -> dict[str, Any]:
    """One training and its evaluation."""
    from hmar.train.directory import read_record
    from pipeline.judged import read_report
    from pipeline.stages.evaluate import evaluate
    from pipeline.stages.train import train
    from pipeline.training import training_values

    seeded = s.model_copy(update={"seed": seed})
    values = training_values(seeded, model, built.snapshot, "")
    # Other settings are another training: it must not continue this one.
    chosen = {key: value for key, value in values.items() if key not in ("out", "tracking", "snapshot")}
    digest = hashlib.sha256(json.dumps([built.id, chosen], sort_keys=True).encode()).hexdigest()[:8]
    run = f"quality-{model}-{seed}-{digest}"
    started = time.monotonic()
    trained = train(seeded, built, model, run)
    seconds = time.monotonic() - started
    evaluated: Evaluated = evaluate(seeded, built, trained)
    report = read_report(trained.directory, built.id, s.split)
    record = read_record(trained.directory)
    return {
        "seed": seed,
        "run": run,
        "directory": str(evaluated.directory),
        "mlflow_run": evaluated.mlflow_run,
        "epochs": record.epochs,
        "best_epoch": record.best_epoch,
        "train_seconds": round(seconds, 1),
        "metrics": report["metrics"],
        "made": report.get("made", {}),
    }


def summary(
    s: QualitySettings, built: Built, runs: list[dict[str, Any]], baseline: list[dict[str, Any]] | None
) -> dict[str, Any]:
    """Means and standard deviations over seeds; an interval over users of the mean over seeds; gain over baseline."""
    from hmar.evaluate.intervals import clustered

    names = [f"test/full/all/{metric}" for metric in COLUMNS] + [f"test/sampled/all/{SAMPLED}"]
    names += [f"test/full/{stratum}/{COLUMNS[0]}" for stratum in ("repeat", "new")]
    per_seed = {name: [made["metrics"][name] for made in runs] for name in names if name in runs[0]["metrics"]}
    values, users = outcomes(s, built, runs)
    interval = clustered(values[:, None], users, s.confidence, s.resamples, s.seed)
    row: dict[str, Any] = {
        "seeds": [made["seed"] for made in runs],
        "mean": {name: float(np.mean(v)) for name, v in per_seed.items()},
        "sd": {name: float(np.std(v, ddof=1)) if len(v) > 1 else None for name, v in per_seed.items()},
        "interval": [float(interval.low[0]), float(interval.high[0])],
        "targets": len(values),
        "users": interval.users,
        "epochs": float(np.mean([made["epochs"] for made in runs])),
        "train_seconds": float(np.mean([made["train_seconds"] for made in runs])),
    }
    if baseline is not None and baseline is not runs:
        other, _ = outcomes(s, built, baseline)
        gain = clustered((values - other)[:, None], users, s.confidence, s.resamples, s.seed)
        row["gain"] = {"mean": float(gain.mean[0]), "interval": [float(gain.low[0]), float(gain.high[0])]}
    return row


def outcomes(
    s: QualitySettings, built: Built, runs: list[dict[str, Any]]
) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
    """The first metric per test target, averaged over seeds, float64 [N], and the targets' users [N]."""
    from hmar.evaluate import metrics, per_target
    from pipeline.judged import per_target as where

    tables = [per_target.read(where(Path(made["directory"]), built.id, s.split)) for made in runs]
    values = [metrics.of_ranks(per_target.ranks(table, "full"), COLUMNS[0]) for table in tables]
    users: NDArray[np.integer] = tables[0].column("user").to_numpy()
    return np.mean(values, axis=0), users


def about(s: QualitySettings, built: Built, accounts: Mapping[str, Any]) -> dict[str, Any]:
    """What a number is worth nothing without."""
    import torch

    from hmar.data.snapshot import Snapshot

    manifest = Snapshot(built.snapshot).manifest
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return {
        "dataset": s.name,
        "snapshot": built.id,
        "users": manifest.users,
        "items": manifest.items,
        "events": manifest.events,
        "behaviors": manifest.behavior_counts,
        "target": manifest.target,
        "repeats": manifest.repeats,
        "accounts": dict(accounts),
        "split": s.split,
        "part": "test",
        "code_version": manifest.code_version,
        "device": device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "confidence": s.confidence,
        "baseline": s.baseline,
        "train": s.train,
        "overrides": s.overrides,
        "command": _command(s),
    }


def _command(s: QualitySettings) -> str:
    """What regenerates the numbers, given the same raw log."""
    words = ["python -m benchmarks.quality", f"--dataset {s.dataset}", "--raw RAW"]
    words += [f"--split {s.split}"] if s.split != "leave_one_out" else []
    for flag, chosen in (("train", s.train), ("overrides", s.overrides)):
        words += [f"--{flag} '{json.dumps(chosen, sort_keys=True)}'"] if chosen else []
    return " ".join(words)


def markdown(result: Mapping[str, Any]) -> str:
    """The table, its protocol above it."""
    a = result["about"]
    rows = result["models"]
    first = f"test/full/all/{COLUMNS[0]}"
    any_row = next(iter(rows.values()))
    seeds = max((row["seeds"] for row in rows.values()), key=len)
    lines = [
        f"## {a['dataset']}, {a['split']}, target {a['target']}",
        "",
        f"{a['users']:,} users, {a['items']:,} items, {a['events']:,} events; {any_row['targets']:,} test targets of "
        f"{any_row['users']:,} users. Full ranking of the catalog; sampled: the target and stored uniform negatives. "
        f"Mean ± standard deviation over seeds {', '.join(map(str, seeds))}; {a['confidence']:.0%} bootstrap intervals "
        f"over users of the mean over seeds; gain: paired with {a['baseline']}. Epochs and weights were chosen on "
        "validation.",
        "",
        f"Snapshot `{a['snapshot']}`, code {a['code_version']}, torch {a['torch']}, {a['device']}, "
        f"{result['seconds'] / 60:.0f} min in all. `{a['command']}`",
        "",
        "| model | NDCG@10 | interval | gain in NDCG@10 | HR@10 | MRR | sampled HR@10 | epochs | s per training |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model, row in sorted(rows.items(), key=lambda entry: -entry[1]["mean"][first]):
        low, high = row["interval"]
        gain = row.get("gain")
        cells = [
            model,
            _spread(row, first),
            f"[{low:.4f}, {high:.4f}]",
            f"{gain['mean']:+.4f} [{gain['interval'][0]:+.4f}, {gain['interval'][1]:+.4f}]" if gain else "",
            *(_spread(row, f"test/full/all/{metric}") for metric in COLUMNS[1:]),
            _spread(row, f"test/sampled/all/{SAMPLED}"),
            f"{row['epochs']:.0f}",
            f"{row['train_seconds']:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(row: Mapping[str, Any], name: str) -> str:
    sd = row["sd"].get(name)
    return f"{row['mean'][name]:.4f}" + (f" ± {sd:.4f}" if sd is not None else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
