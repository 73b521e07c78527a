"""ATRank's two claims on one log: it is faster to the same AUC than networks that read a history one event after the
other, and no worse; and one network of all tasks is about as good as one for each.

    python -m benchmarks.atrank --part encoders --dataset movielens --raw path/to/ml-100k
    python -m benchmarks.atrank --part modes --dataset taobao --raw path/to/UserBehavior.csv

encoders    ATRank, CNN + pooling, Bi-LSTM and Bi-LSTM + attention, on the same impressions, with the same inputs (item,
            behavior, time bucket), width, dropout, head, optimizer, batches and patience; nothing is tuned for any.
modes       the seven training modes of the paper's case: for each behavior a network that reads and is asked about this
            behavior alone; for each one that reads all of them; and one for all (all-in-one).

The paper's AUC is a mean over users: GAUC here. Both are given, of the test part, of the epoch with the best validation
AUC, the mean over the seeds; differences of GAUC have a 95 % interval over users, and how many times as long as ATRank
another encoder takes has one over seeds.
"""

import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from benchmarks.ranker_runs import impressions_by_user, run
from benchmarks.tables import command, kept, run_benchmark, tell
from pipeline.settings import RetrainSettings

if TYPE_CHECKING:
    from hmar.data.snapshot import Snapshot

Runs = Mapping[str, Sequence[Mapping[str, Any]]]
"""Row -> its runs (:func:`benchmarks.ranker_runs.run`), one per seed."""

ENCODERS = {
    "atrank": "ATRank",
    "cnn": "CNN + pooling",
    "bi_lstm": "Bi-LSTM",
    "bi_lstm_attention": "Bi-LSTM + attention",
}
TOLD = ("width", "spaces", "dropout", "lr", "batch_size", "max_length", "epochs", "patience")
"""Settings that a table names."""
SHORTEST = 1e-3
"""Seconds of an epoch are rounded to this."""
ATTENDING = ("atrank", "bi_lstm_attention")
"""Models whose attention looks in several spaces."""


class ATRankSettings(RetrainSettings):
    """Train rankers side by side with several seeds; print a table, write it as Markdown and JSON."""

    part: Literal["encoders", "modes"] = "encoders"
    """The claim."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One training per seed."""
    epochs: int = Field(20, ge=1)
    """Of each training, at most."""
    patience: int = Field(3, ge=1)
    """Epochs without a better validation AUC after which it ends."""
    width: int = Field(32, ge=1)
    """d of all models."""
    spaces: int = Field(4, ge=1)
    """Latent spaces of the attention."""
    dropout: float = Field(0.2, ge=0, lt=1)
    lr: float = Field(1e-3, gt=0)
    batch_size: int = Field(256, ge=1)
    """Moments per step."""
    max_length: int = Field(50, ge=1)
    """Events of a history."""
    work: Path = Path("var/atrank")
    """Where finished trainings are kept: they are not repeated."""
    out: Path = Path("benchmarks/results/atrank")
    """The tables are written to OUT.md, all numbers to OUT.json; those of other parts and logs are kept."""


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    program = "python -m benchmarks.atrank"
    return run_benchmark(lambda: ATRankSettings.resolve(arguments=arguments, program=program), _work)


def _work(s: ATRankSettings) -> None:
    result = measure(s)
    results = {**kept(s.out), f"{s.part} {s.name}": result}
    tell(s.out, results, markdown(results))


def measure(s: ATRankSettings) -> dict[str, Any]:
    """All runs of one part on one log.

    Raises:
        HmarError: of the stage that failed.
    """
    from hmar.data.snapshot import Snapshot
    from pipeline.stages.ingest import land
    from pipeline.stages.snapshot import build
    from pipeline.stages.validate import validate

    if s.part == "modes" and not s.snapshot.impressions.tasks:
        others = tuple(name for name in s.snapshot.behaviors if name != s.snapshot.target)
        shown = s.snapshot.impressions
        shown = shown.model_copy(update={"tasks": others, "sampled": shown.sampled or 1})
        s = s.model_copy(update={"snapshot": s.snapshot.model_copy(update={"impressions": shown})})
    built = build(s, validate(s, land(s)))
    snapshot = Snapshot(built.snapshot)
    rows = encoders(s) if s.part == "encoders" else modes(s, snapshot)
    given = {"snapshot": str(built.snapshot), "split": s.split, "loss": "log_loss", "lr": s.lr, "device": "cpu"}
    given |= {"batch_size": s.batch_size, "max_length": s.max_length, "max_epochs": s.epochs, "patience": s.patience}
    given |= {"batching": "by_length", "negatives": max(s.snapshot.impressions.sampled, 1), "threads": 1}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in rows}
    for seed in s.seeds:
        for name, row in rows.items():
            runs[name].append(run({**given, **row, "seed": seed}, s.work / snapshot.manifest.id))
            print(f"{name}, seed {seed}: {_told(runs[name][-1])}", file=sys.stderr, flush=True)
    return summary(s, snapshot, runs)


def summary(s: ATRankSettings, snapshot: "Snapshot", runs: Runs) -> dict[str, Any]:
    """All numbers of a section of the tables.

    ``about``; ``rows`` by name, means and deviations over seeds; ``speed`` of encoders (:func:`_speed`);
    ``differences`` of GAUC (:func:`_differences`).
    """
    import torch

    about = snapshot.manifest.splits[s.split]
    return {
        "about": {
            "dataset": s.name,
            "snapshot": snapshot.manifest.id,
            "split": s.split,
            "users": snapshot.n_users,
            "items": snapshot.n_items,
            "events": snapshot.manifest.events,
            "impressions": about["impressions"],
            "tasks": about.get("tasks", {}),
            "seeds": list(s.seeds),
            "settings": {key: getattr(s, key) for key in TOLD},
            "code_version": snapshot.manifest.code_version,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, one thread",
            "command": _command(s),
        },
        "rows": {name: _row(own) for name, own in runs.items()},
        "speed": _speed(runs) if s.part == "encoders" else {},
        "differences": _differences(runs, s, snapshot),
    }


def _command(s: ATRankSettings) -> str:
    shown = ("negative", "sampled") if s.part == "encoders" else ("sampled", "tasks")
    always = ("part", "dataset", "name", "raw", *TOLD, *(f"snapshot.impressions.{name}" for name in shown))
    return command("benchmarks.atrank", s, always, ("split", "seeds"))


def encoders(s: ATRankSettings) -> dict[str, dict[str, Any]]:
    """Row -> model and its configuration."""
    same = {"d": s.width, "dropout": s.dropout, "head": "dot"}
    return {
        name: {"model": model, "config": {**same, **({"spaces": s.spaces} if model in ATTENDING else {})}}
        for model, name in ENCODERS.items()
    }


def modes(s: ATRankSettings, snapshot: "Snapshot") -> dict[str, dict[str, Any]]:
    """The same of the seven modes, or of as many as there are tasks."""
    same = {"d": s.width, "dropout": s.dropout, "spaces": s.spaces}
    tasks = list(snapshot.tasks(s.split))
    rows = {f"{task} from {task}": {**same, "tasks": [task], "behaviors": [task]} for task in tasks}
    rows |= {f"{task} from all": {**same, "tasks": [task]} for task in tasks}
    rows |= {"all from all": {**same, "tasks": tasks}}
    return {name: {"model": "atrank", "config": config} for name, config in rows.items()}


def _told(found: Mapping[str, Any]) -> str:
    test = ", ".join(f"{task} {judged['auc']:.4f}" for task, judged in found["test"].items())
    return f"test AUC {test}; {len(found['epochs'])} epochs of {fmean(e['seconds'] for e in found['epochs']):.1f} s"


def _row(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    test = {
        task: {
            metric: _mean([each["test"][task][metric] for each in runs]) for metric in ("auc", "gauc")
        }
        for task in runs[0]["test"]
    }  # fmt: skip
    return {
        "test": test,
        "validation": _mean([max(e["auc"] for e in each["epochs"]) for each in runs]),
        "seconds_per_epoch": _mean([fmean(e["seconds"] for e in each["epochs"]) for each in runs]),
        "best_epoch": _mean([each["best_epoch"] for each in runs]),
        "weights": runs[0]["weights"],
    }


def _mean(values: Sequence[float]) -> dict[str, float]:
    return {"mean": fmean(values), "deviation": stdev(values) if len(values) > 1 else 0.0}


def _speed(runs: Runs) -> dict[str, Any]:
    """Seconds until the validation AUC that every run reaches: the lowest of all runs' best. ``times``: those of a row
    divided by those of the first, geometric means over seeds, with their interval."""
    level = min(max(e["auc"] for e in each["epochs"]) for own in runs.values() for each in own)
    seconds = {name: [_until(each, level) for each in own] for name, own in runs.items()}
    first = next(iter(seconds.values()))
    return {
        "auc": level,
        "rows": {name: {**_mean(own), "times": _times(own, first)} for name, own in seconds.items()},
    }


def _times(own: Sequence[float], first: Sequence[float]) -> dict[str, float | None]:
    """Welch's 95 % interval of the difference of mean log seconds, as a ratio. None where one seed, or none that
    differs, says nothing of chance."""
    from scipy.stats import ttest_ind

    logs = [np.log(np.maximum(seconds, SHORTEST)) for seconds in (own, first)]
    found: dict[str, float | None] = {"mean": float(np.exp(logs[0].mean() - logs[1].mean())), "low": None, "high": None}
    if own is not first and min(map(len, logs)) > 1 and any(np.ptp(values) > 0 for values in logs):
        interval = ttest_ind(*logs, equal_var=False).confidence_interval(0.95)
        found |= {"low": float(np.exp(interval.low)), "high": float(np.exp(interval.high))}
    return found


def _until(found: Mapping[str, Any], level: float) -> float:
    seconds = 0.0
    for epoch in found["epochs"]:
        seconds += float(epoch["seconds"])
        if epoch["auc"] >= level:
            return seconds
    raise AssertionError("every run reaches the lowest best")


def _differences(runs: Runs, s: ATRankSettings, snapshot: "Snapshot") -> dict[str, Any]:
    """GAUC of a row less another's, both the mean over the seeds: encoders against ATRank, and for every task its other
    modes against the network of this behavior alone."""
    first = next(iter(runs))
    pairs = {}
    for name, own in runs.items():
        for task in own[0]["test"]:
            base = first if s.part == "encoders" else f"{task} from {task}"
            if name != base:
                weights = impressions_by_user(snapshot, s.split, task)
                pairs[f"{name} - {base}"] = _difference(own, runs[base], task, weights)
    return pairs


def _difference(
    one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], task: str, weights: Mapping[str, int]
) -> dict[str, float]:
    """Users are weighted as GAUC weights them, with their impressions."""
    from hmar.evaluate.intervals import of_sums

    users = sorted(one[0]["test"][task]["by_user"], key=int)
    weight = np.array([weights[user] for user in users], dtype=np.float64)
    means = [np.array([fmean(r["test"][task]["by_user"][u] for r in runs) for u in users]) for runs in (one, other)]
    found = of_sums(((means[0] - means[1]) * weight)[:, None], weight)
    return {"mean": float(found.mean[0]), "low": float(found.low[0]), "high": float(found.high[0]), "users": len(users)}


def markdown(results: Mapping[str, Any]) -> str:
    """All parts and logs as tables."""
    return "# ATRank\n" + "".join(_section(name, result) for name, result in sorted(results.items()))


def _section(name: str, result: Mapping[str, Any]) -> str:
    about, part = result["about"], name.split()[0]
    told = about["settings"]
    lines = [
        "", f"## {part}: {about['dataset']}", "",
        f"Snapshot {about['snapshot']}, split {about['split']}: {about['users']:,} users, {about['items']:,} items, "
        f"{about['events']:,} events; {about['impressions']['test']['impressions']:,} impressions of "
        f"{about['impressions']['test']['moments']:,} moments in the test part. Seeds "
        f"{', '.join(map(str, about['seeds']))}; code {about['code_version']}, torch {about['torch']}, "
        f"{about['machine']}. " + ", ".join(f"{key} {value}" for key, value in told.items()) + ". "
        "Mean ± standard deviation over seeds; differences of GAUC with users weighted as it weights them, 95 % "
        f"bootstrap interval over users. `{about['command']}`", "",
    ]  # fmt: skip
    if part == "encoders":
        lines += _encoders(result)
    else:
        lines += ["| reads and is asked | task | AUC | GAUC | s/epoch |", "|---|---|---:|---:|---:|"]
        for row, found in result["rows"].items():
            for task, judged in found["test"].items():
                cost = _pm(found["seconds_per_epoch"], 2)
                lines.append(f"| {row} | {task} | {_pm(judged['auc'])} | {_pm(judged['gauc'])} | {cost} |")
    lines += ["", "| GAUC, paired over users | difference | 95 % | users |", "|---|---:|---|---:|"]
    for pair, found in result["differences"].items():
        lines.append(
            f"| {pair} | {found['mean']:+.4f} | {found['low']:+.4f} to {found['high']:+.4f} | {found['users']:,} |"
        )
    if part == "encoders":
        lines += [
            "",
            "Times ATRank's: seconds to that AUC divided by ATRank's, geometric means over seeds with Welch's 95 % "
            "interval. Where it holds 1, or where there is none, nothing is decided about speed. Against the paper (up "
            "to four times faster to the same AUC, and no worse):",
            "",
            *_verdict(result),
        ]
    return "\n".join([*lines, ""])


def _verdict(result: Mapping[str, Any]) -> list[str]:
    """In words: of each other encoder whether ATRank was faster, and whether its GAUC was better."""
    rows = result["speed"]["rows"]
    first, *others = rows
    said = []
    for name in others:
        times = rows[name]["times"]
        faster, slower = (times["low"] or 0) > 1, (times["high"] or np.inf) < 1
        speed = "faster" if faster else "slower" if slower else "neither faster nor slower beyond chance"
        off = result["differences"][f"{name} - {first}"]
        worse = off["low"] > 0
        quality = "worse" if worse else "better" if off["high"] < 0 else "no different within the interval"
        verdict = "this disagrees" if slower or worse else "this agrees" if faster else "undecided"
        said.append(f"- {name}: ATRank is {speed}, its GAUC is {quality}; {verdict}.")
    return said


def _encoders(result: Mapping[str, Any]) -> list[str]:
    speed = result["speed"]
    reached = f"s to validation AUC {speed['auc']:.4f}"
    lines = [
        f"| model | weights | s/epoch | {reached} | times ATRank's | validation AUC | AUC | GAUC |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row, found in result["rows"].items():
        (judged,) = found["test"].values()
        took = speed["rows"][row]
        lines.append(
            f"| {row} | {found['weights']:,} | {_pm(found['seconds_per_epoch'], 2)} | {_pm(took, 1)} | "
            f"{_ratio(took['times'])} | {_pm(found['validation'])} | {_pm(judged['auc'])} | {_pm(judged['gauc'])} |"
        )
    return lines


def _ratio(times: Mapping[str, float | None]) -> str:
    interval = "" if times["low"] is None else f" [{times['low']:.1f}, {times['high']:.1f}]"
    return f"{times['mean']:.1f}{interval}"


def _pm(value: Mapping[str, float], digits: int = 4) -> str:
    return f"{value['mean']:.{digits}f} ± {value['deviation']:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
