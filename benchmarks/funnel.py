"""What auxiliary behaviors are worth: what the generator of a made-up shop says, and what HMAR makes of them.

    python -m benchmarks.funnel

For each seed and each strength of the funnel (``hmar simulate --funnel``) a log of its own is made, without drift, and
HMAR is trained twice: on all behaviors, and on purchases only (``config.behaviors: target``). What removing the
auxiliary behaviors costs HMAR stands beside what it costs a ranker that knows the generator
(benchmarks/funnel_oracle.py): one with a clock, and one that knows the order of events only, as HMAR does. Targets,
candidates and metric are the same for all: leave-one-out test targets, full ranking. What is there already is not
trained again.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmarks.tables import run_benchmark, tell
from hmar.settings import LayeredSettings

SPLIT = "leave_one_out"
READERS = {"all": "all behaviors", "target": "purchases only"}
TOLERANCE = 0.03
"""How far outside of the interval HMAR's loss may be: that of a network which has to learn what the oracles know."""


class FunnelSettings(LayeredSettings):
    """Train HMAR with and without auxiliary behaviors on made-up shops; a table as Markdown and JSON."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """A log and a pair of trainings each."""
    funnels: tuple[float, ...] = (1.0, 0.5, 0.0)
    """Strengths of the funnel."""
    users: int = Field(2000, ge=100)
    items: int = Field(50, ge=20)
    epochs: int = Field(20, ge=1)
    """Of the training on all behaviors; that on purchases only, which has a tenth of the events, has twice as many."""
    work: Path = Path("var/funnel")
    """Logs, snapshots and trainings."""
    metric: str = "ndcg@10"
    confidence: float = Field(0.95, gt=0, lt=1)
    resamples: int = Field(2000, ge=100)
    out: Path = Path("benchmarks/results/funnel")
    """The table is written to OUT.md, all numbers to OUT.json."""


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    program = "python -m benchmarks.funnel"
    return run_benchmark(
        lambda: FunnelSettings.resolve(arguments=arguments, use_environment=False, program=program), _work
    )


def _work(s: FunnelSettings) -> None:
    result = measure(s)
    tell(s.out, result, markdown(result))


def measure(s: FunnelSettings) -> dict[str, Any]:
    """All logs and trainings, strength by strength.

    Raises:
        HmarError: of the stage that failed.
    """
    import torch

    from hmar import __version__
    from hmar.threads import limit_threads

    limit_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    started = time.monotonic()
    rows = []
    for funnel in s.funnels:
        found = [outcomes(s, funnel, seed) for seed in s.seeds]
        rows.append({"funnel": funnel, **losses(s, found)})
    return {
        "about": {
            "seeds": list(s.seeds),
            "users": s.users,
            "items": s.items,
            "epochs": s.epochs,
            "metric": s.metric,
            "split": SPLIT,
            "confidence": s.confidence,
            "tolerance": TOLERANCE,
            "code_version": __version__,
            "torch": torch.__version__,
            "device": f"CPU, {torch.get_num_threads()} threads",
            "seconds": round(time.monotonic() - started),
        },
        "rows": rows,
    }


def outcomes(s: FunnelSettings, funnel: float, seed: int) -> dict[str, Any]:
    """The metric per test target of every ranker on one log, float64 [N] each, and the targets' users."""
    from hmar.data.snapshot import Snapshot
    from hmar.evaluate.judge import judge
    from hmar.evaluate.metrics import of_ranks

    path, raw = prepare(s, funnel, seed)
    snapshot = Snapshot(path)
    rankers = {**oracles(snapshot, raw), **{f"hmar {reads}": hmar(s, snapshot, reads, seed) for reads in READERS}}
    found: dict[str, Any] = {"snapshot": snapshot.manifest.id, "user": snapshot.targets(SPLIT, "test").user}
    for name, model in rankers.items():
        judged = judge(model, snapshot, SPLIT, "test", max_length=200, sampled=False, top=0)
        found[name] = of_ranks(judged.rank_full, s.metric)
    return found


def prepare(s: FunnelSettings, funnel: float, seed: int) -> tuple[Path, Path]:
    """A snapshot and its raw log, made unless they are there."""
    from pipeline.settings import RetrainSettings
    from pipeline.simulate import simulate
    from pipeline.stages.ingest import land
    from pipeline.stages.snapshot import build
    from pipeline.stages.validate import validate

    home = (s.work / f"{s.users}-{s.items}-{seed}-{funnel}").absolute()
    raw = home / "raw"
    if not (raw / "truth.json").is_file():
        simulate("taobao", raw, users=s.users, items=s.items, seed=seed, funnel=funnel, drift=0.0, workers=1)
    values = {"dataset": "taobao", "raw": raw, "home": home, "engine": {"threads": 1}}
    run = RetrainSettings.resolve(values, use_environment=False)
    return build(run, validate(run, land(run))).snapshot, raw


def oracles(snapshot: Any, raw: Path) -> dict[str, Any]:
    """Rankers that know the generator: by clock and by order, of all behaviors and of purchases only."""
    from benchmarks.funnel_oracle import Oracle

    settings = json.loads((raw / "truth.json").read_text(encoding="utf-8"))["settings"]
    with np.load(raw / "truth.npz", allow_pickle=False) as arrays:
        truth = dict(arrays)
    made = {}
    for clock, known in ((True, "clock"), (False, "order")):
        for reads in READERS:
            oracle = Oracle(snapshot, truth, settings, purchases_only=reads == "target", clock=clock)
            oracle.fit_counts(snapshot, SPLIT)
            made[f"{known} {reads}"] = oracle.eval()
    return made


def hmar(s: FunnelSettings, snapshot: Any, reads: str, seed: int) -> Any:
    """HMAR trained on all behaviors or on the target's, its best epoch chosen on validation."""
    from hmar.export import load
    from hmar.train.session import train
    from hmar.train.settings import TrainSettings
    from hmar.train.signals import StopSignal

    epochs = s.epochs if reads == "all" else 2 * s.epochs
    out = snapshot.path.parent.parent.parent / f"hmar-{reads}-{seed}-{epochs}"
    settings = TrainSettings.resolve(
        {
            "model": "hmar",
            "snapshot": str(snapshot.path),
            "out": str(out),
            "split": SPLIT,
            "seed": seed,
            "loss": "cross_entropy",
            "lr": 3e-3,
            "betas": [0.9, 0.98],
            "batch_size": 32,
            "max_length": 200,
            "max_epochs": epochs,
            "eval_every": 2,
            "patience": 5,
            "device": "cpu",
            "threads": int(os.environ.get("OMP_NUM_THREADS", 1)),
            "config": {
                "d": 32,
                "dropout": 0.2,
                "behaviors": reads,
                "alpha": {"pv": 0.1, "fav": 0.1, "cart": 0.1, "buy": 0.7},
            },
            "tracking": {"uri": f"sqlite:///{out.parent / 'mlflow.db'}"},
        },
        use_environment=False,
    )
    train(settings, StopSignal())
    return load(out / "model").model


def losses(s: FunnelSettings, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Of one strength: each ranker's metric, what removing the auxiliary behaviors costs it, and the interval."""
    from hmar.evaluate.intervals import clustered

    row: dict[str, Any] = {
        "snapshots": [one["snapshot"] for one in found],
        "targets": [len(one["user"]) for one in found],
    }
    users = np.concatenate([number * 10**9 + one["user"].astype(np.int64) for number, one in enumerate(found)])
    for ranker in ("clock", "order", "hmar"):
        both = {reads: [one[f"{ranker} {reads}"] for one in found] for reads in READERS}
        lost: list[NDArray[np.float64]] = [a - t for a, t in zip(both["all"], both["target"], strict=True)]
        interval = clustered(np.concatenate(lost)[:, None], users, s.confidence, s.resamples)
        row[ranker] = {
            **{reads: [float(values.mean()) for values in both[reads]] for reads in READERS},
            "lost": [float(values.mean()) for values in lost],
            "mean": float(interval.mean[0]),
            "low": float(interval.low[0]),
            "high": float(interval.high[0]),
        }
    row["expected"] = sorted(row[ranker]["mean"] for ranker in ("order", "clock"))
    low, high = row["expected"]
    row["recovered"] = low - TOLERANCE <= row["hmar"]["mean"] <= high + TOLERANCE
    return row


def markdown(result: Mapping[str, Any]) -> str:
    """The table, its protocol above it."""
    a = result["about"]
    lines = [
        "## What auxiliary behaviors are worth in made-up shops",
        "",
        f"{a['metric'].upper()} under full ranking on the test targets of {a['split']}; {a['users']:,} users and "
        f"{a['items']:,} items a log, one log and one pair of trainings for each of the seeds "
        f"{', '.join(map(str, a['seeds']))}, without drift. Lost: all behaviors less purchases only, paired, with "
        f"{a['confidence']:.0%} bootstrap intervals over the users of all seeds. The generator's rankers know its "
        "chances and delays, with a clock or by the order of events only; HMAR reads order and counts. "
        "Its epochs were chosen on validation.",
        "",
        f"Code {a['code_version']}, torch {a['torch']}, {a['device']}, {a['seconds'] / 60:.0f} min. "
        "`python -m benchmarks.funnel`",
        "",
        "| funnel | ranker | all behaviors | purchases only | lost | interval | lost by seed |",
        "|---|---|---|---|---|---|---|",
    ]
    names = {"clock": "generator, clock", "order": "generator, order", "hmar": "HMAR"}
    for row in result["rows"]:
        for ranker, name in names.items():
            one = row[ranker]
            cells = [
                f"{row['funnel']:g}",
                name,
                _spread(one["all"]),
                _spread(one["target"]),
                f"{one['mean']:+.3f}",
                f"[{one['low']:+.3f}, {one['high']:+.3f}]",
                ", ".join(f"{value:+.3f}" for value in one["lost"]),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"HMAR's loss against what the generator says, {a['tolerance']} allowed on either side:", ""]
    for row in result["rows"]:
        low, high = row["expected"]
        verdict = "inside" if row["recovered"] else "outside"
        lines.append(
            f"- funnel {row['funnel']:g}: {row['hmar']['mean']:+.3f}, expected {low:+.3f} to {high:+.3f}: {verdict}"
        )
    return "\n".join([*lines, ""])


def _spread(values: list[float]) -> str:
    sd = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{sd}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
