"""DFAR, its ablations and the models of its Table 2 on labelled impressions of one snapshot (arXiv 2302.03965).

    hmar ingest --dataset amazon --raw Musical_Instruments.json --name music --home HOME
    hmar snapshot --dataset amazon --name music --home HOME --snapshot.impressions.sampled 9
    python -m benchmarks.dfar --snapshot HOME/snapshots/music/ID --work WORK

The paper's protocol: the last moment of feedback is the test, the one before it validation, histories of 20 events, and
beside what was liked and disliked nine sampled negatives per like. All models have the same inputs, learning rate,
epochs and patience, rankers the same batches, and nothing is tuned; the best epoch by validation AUC is judged. A run
that is there already is not repeated. No MLflow, no exported models: for those, ``hmar benchmark``.
"""

import hashlib
import json
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator

from benchmarks.fitting import fit
from benchmarks.tables import command, keep, kept, run_benchmark
from hmar.atomic import replaced_file
from hmar.data.batches import TrainingData
from hmar.data.impressions import ImpressionData
from hmar.data.snapshot import Snapshot
from hmar.evaluate import impression_metrics
from hmar.evaluate.impressions import ImpressionJudgement, judge_impressions, summarize_impressions
from hmar.evaluate.intervals import clustered
from hmar.evaluate.names import LENGTH_STRATA
from hmar.losses import loss_function
from hmar.models import MODELS, model_class
from hmar.models.base import Encoder, Recommender, Vocabulary
from hmar.models.ranker import Ranker
from hmar.settings import LayeredSettings, nearest

D, LENGTH, BATCH, USERS = 32, 20, 200, 32
NEGATIVES = 4
"""Of the sampled ones, per positive and epoch."""
METRICS = ("auc", "gauc", "mrr", "ndcg")
MODEL = "DFAR"

ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "Popularity": ("popularity", {}),
    "Recent": ("recent", {}),
    "BPR-MF": ("bpr_mf", {"d": D}),
    "SASRec": ("sasrec", {"d": D, "heads": 2, "blocks": 1}),
    "Caser": ("caser", {"d": D}),
    "GRU4Rec": ("gru4rec", {"d": D}),
    "DIN": ("din", {"d": D}),
    "DIEN": ("dien", {"d": D}),
    "THA4Rec": ("tha4rec", {"d": D, "heads": 2}),
    "DFN": ("dfn", {"d": D}),
    "FeedRec": ("feedrec", {"d": D}),
    "DFAR": ("dfar", {"d": D}),
    "DFAR, mask after the softmax": ("dfar", {"d": D, "mask": "after"}),
    "DFAR, mask a product": ("dfar", {"d": D, "mask": "product"}),
    "DFAR, cosine maximized": ("dfar", {"d": D, "cosine": "maximized"}),
    "without FHA": ("dfar", {"d": D, "mask": "none", "pairs": "own"}),
    "MO: without label mask": ("dfar", {"d": D, "mask": "none"}),
    "IDL: without disentangling": ("dfar", {"d": D, "lambda_d": 0.0}),
    "IBL: without dual BPR": ("dfar", {"d": D, "lambda_bpr": 0.0}),
}
"""A model that is not registered is left out."""


class DFARSettings(LayeredSettings):
    """Train DFAR and its baselines with several seeds; write tables as Markdown and JSON."""

    snapshot: Path
    split: str = "leave_one_out"
    name: str = ""
    """Of the log in the tables; the dataset's if empty."""
    work: Path
    """Where runs are kept: they are not repeated."""
    rows: tuple[str, ...] = tuple(ROWS)
    """What to train, as a JSON list. The tables have every row that has runs."""
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    lr: float = Field(3e-3, gt=0)
    epochs: int = Field(20, ge=1)
    """Of each training, at most."""
    patience: int = Field(3, ge=1)
    """Epochs without a better validation AUC after which it ends."""
    tables_only: bool = False
    """Train nothing."""
    out: Path = Path("benchmarks/results/dfar")
    """The tables are written to OUT.md, all numbers to OUT.json; those of other logs are kept."""

    @field_validator("rows")
    @classmethod
    def _known(cls, rows: tuple[str, ...]) -> tuple[str, ...]:
        for row in rows:
            if row not in ROWS:
                raise ValueError(f"no row {row!r}{nearest(row, list(ROWS))}")
        return rows


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    program = "python -m benchmarks.dfar"
    return run_benchmark(
        lambda: DFARSettings.resolve(arguments=arguments, use_environment=False, program=program), _work
    )


def _work(s: DFARSettings) -> None:
    torch.set_num_threads(1)
    snapshot = Snapshot(s.snapshot)
    known = [row for row in ROWS if ROWS[row][0] in MODELS]
    # Seeds outermost: an early end leaves whole tables of fewer seeds.
    for seed in () if s.tables_only else s.seeds:
        for row in known:
            path = _path(s, snapshot, row, seed)
            if row not in s.rows or seed not in _seeds(s, row) or path.exists():
                continue
            made = run(row, seed, snapshot, s)
            with replaced_file(path) as target:
                _save(target, made)
            print(f"{row}, seed {seed}: {json.dumps(made['about'])}", flush=True)
    result = kept(s.out)
    name = s.name or snapshot.manifest.dataset
    result.setdefault("logs", {})[f"{name}, {s.split}"] = summary(snapshot, s, known)
    result |= {"machine": platform.machine(), "torch": torch.__version__}
    keep(s.out, result, markdown(result))


def _seeds(s: DFARSettings, row: str) -> tuple[int, ...]:
    """A rule is the same with every seed."""
    return s.seeds if model_class(ROWS[row][0]).trainable else s.seeds[:1]


def _path(s: DFARSettings, snapshot: Snapshot, row: str, seed: int) -> Path:
    """Of a run: everything that it follows from, but for the code, is in its name, so that no other is taken for it."""
    made_with = json.dumps([ROWS[row], LENGTH, BATCH, USERS, NEGATIVES], sort_keys=True)
    digest = hashlib.sha256(made_with.encode()).hexdigest()[:8]
    directory = f"{snapshot.manifest.id}-{s.split}-{s.lr:g}-{s.epochs}-{s.patience}"
    return s.work / directory / f"{_slug(row)}-{seed}-{digest}.npz"


def run(row: str, seed: int, snapshot: Snapshot, s: DFARSettings) -> dict[str, Any]:
    """One training, and its scores of the test impressions."""
    name, config = ROWS[row]
    torch.manual_seed(seed)
    kind = model_class(name)
    model = kind(kind.Config.parse(config), Vocabulary.of(snapshot))
    model.fit_counts(snapshot, s.split)
    about: dict[str, Any] = {"parameters": sum(weights.numel() for weights in model.parameters())}
    started = time.process_time()
    if isinstance(model, Encoder | Ranker):
        loss, data = _training(model, snapshot, s, seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=s.lr, fused=True)

        def validate() -> float:
            return judge_impressions(model, snapshot, s.split, "validation", max_length=LENGTH).mean("auc")

        course, best = fit(model, loss, data.batches, optimizer, validate, s.epochs, s.patience)
        about |= {"best_epoch": best, "validation": [epoch["value"] for epoch in course]}
    about["train_seconds"] = time.process_time() - started
    judged = judge_impressions(model, snapshot, s.split, "test", max_length=LENGTH)
    about |= {metric: judged.mean(metric) for metric in METRICS}
    return {"about": about, "score": judged.score}


def _training(model: Recommender, snapshot: Snapshot, s: DFARSettings, seed: int) -> tuple[Any, Any]:
    """The loss, and what gives batches."""
    if isinstance(model, Ranker):
        data: Any = ImpressionData(
            snapshot,
            s.split,
            max_length=LENGTH,
            batch_size=BATCH,
            negatives=NEGATIVES,
            seed=seed,
            behaviors=model.reads,
        )
        return loss_function("log_loss"), data
    assert isinstance(model, Encoder)
    data = TrainingData(
        snapshot,
        s.split,
        max_length=LENGTH,
        batch_size=USERS,
        negatives=NEGATIVES,
        seed=seed,
        behaviors=model.reads,
        recency=model.uses_recency,
    )
    return loss_function("bpr"), data


def summary(snapshot: Snapshot, s: DFARSettings, rows: Sequence[str]) -> dict[str, Any]:
    """Of all rows with runs: means, standard deviations over seeds, intervals, and DFAR's gain over each."""
    runs = {row: list(_runs([_path(s, snapshot, row, seed) for seed in _seeds(s, row)])) for row in rows}
    runs = {row: made for row, made in runs.items() if made}
    first = judge_impressions(_popularity(snapshot, s.split), snapshot, s.split, "test", max_length=LENGTH)
    own = [made["score"] for made in runs.get(MODEL, [])]
    told: dict[str, Any] = {}
    for row, made in runs.items():
        of_metric = {metric: [one["about"][metric] for one in made] for metric in METRICS}
        entry: dict[str, Any] = {
            "seeds": len(made),
            "mean": {metric: float(np.mean(values)) for metric, values in of_metric.items()},
            "sd": {metric: float(np.std(values, ddof=1)) if len(values) > 1 else None
                   for metric, values in of_metric.items()},
            "parameters": made[0]["about"]["parameters"],
            "train_seconds": float(np.mean([one["about"]["train_seconds"] for one in made])),
            "best_epochs": [one["about"].get("best_epoch") for one in made],
            "by_length": _by_length(first, made),
        }  # fmt: skip
        scores = [one["score"] for one in made]
        if own and row != MODEL:
            entry["gain"] = {metric: _gain(first, own, scores, metric) for metric in ("auc", "gauc")}
        told[row] = entry
    impressions = first.impressions
    return {
        "snapshot": snapshot.manifest.id,
        "users": snapshot.n_users,
        "items": snapshot.n_items,
        "events": snapshot.manifest.events,
        "test": {
            "impressions": len(impressions.item),
            "positives": int(impressions.label.sum()),
            "disliked": int(((impressions.label == 0) & ~impressions.sampled).sum()),
            "users": int(first.users.judged.sum()),
        },
        "settings": {"lr": s.lr, "epochs": s.epochs, "patience": s.patience},
        "code_version": snapshot.manifest.code_version,
        "command": _command(s),
        "rows": told,
    }


def _command(s: DFARSettings) -> str:
    return command("benchmarks.dfar", s, ("snapshot", "work", "seeds", "lr", "epochs", "patience"), ("split", "name"))


def _runs(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        if path.exists():
            with np.load(path, allow_pickle=False) as held:
                yield {"about": json.loads(str(held["about"])), "score": held["score"]}


def _gain(
    first: ImpressionJudgement, own: Sequence[NDArray[Any]], other: Sequence[NDArray[Any]], metric: str
) -> list[float]:
    """DFAR's metric less another's, both in the mean over seeds, with its 95 % interval over users."""
    parts = [np.mean([_parts(first, score, metric)[0] for score in scores], axis=0) for scores in (own, other)]
    users = _parts(first, own[0], metric)[1]
    found = clustered((parts[0] - parts[1])[:, None], users, 0.95, 1000, 0)
    return [float(found.mean[0]), float(found.low[0]), float(found.high[0])]


def _parts(first: ImpressionJudgement, score: NDArray[Any], metric: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Values whose mean is the metric, and the user of each."""
    user, label = first.impressions.user[first.moment], first.impressions.label
    if metric == "auc":
        return impression_metrics.auc_parts(label, score), user
    values = impression_metrics.of_users(user, label, score)
    chosen = values.judged[values.of]
    return values.auc[values.of][chosen], user[chosen]


def _by_length(first: ImpressionJudgement, made: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """AUC by history length, in the mean over seeds."""
    found: dict[str, list[float]] = {}
    for one in made:
        judged = ImpressionJudgement(
            first.snapshot, first.split, first.part, first.impressions, one["score"], first.history_length
        )
        for name, value in summarize_impressions(judged, resamples=2).items():
            if "/length_" in name and name.endswith("/auc"):
                found.setdefault(name.split("/")[2].removeprefix("length_"), []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _popularity(snapshot: Snapshot, split: str) -> Recommender:
    kind = model_class("popularity")
    model = kind(kind.Config.parse({}), Vocabulary.of(snapshot))
    model.fit_counts(snapshot, split)
    return model


def _save(target: Path, made: Mapping[str, Any]) -> None:
    with target.open("wb") as stream:
        np.savez(stream, about=np.array(json.dumps(made["about"])), score=made["score"])


def _slug(row: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in row.lower())


def markdown(result: Mapping[str, Any]) -> str:
    """Two tables per log: metrics with DFAR's gain, and AUC by history length."""
    parts = [
        "# DFAR against the models of its Table 2, and its ablations",
        "Labelled impressions: what was liked, what was disliked, nine sampled negatives per like. "
        f"d {D}, histories of {LENGTH} events; rankers on log loss, batches of {BATCH} moments with {NEGATIVES} "
        f"sampled negatives per positive; encoders on BPR, batches of {USERS} users with {NEGATIVES} negatives per "
        "position. One learning rate for all, nothing tuned; the best epoch by validation AUC. Mean ± standard "
        "deviation over seeds; DFAR's gain paired over users, 95 % bootstrap interval. Seconds are of one processor "
        "core; what scoring costs is in the table of [all models](all-models.md).",
    ]
    for name, log in result["logs"].items():
        parts.append(_section(name, log))
    parts.append(f"torch {result['torch']}, {result['machine']}, one thread.")
    return "\n\n".join(parts) + "\n"


def _section(name: str, log: Mapping[str, Any]) -> str:
    test, settings = log["test"], log["settings"]
    rows = {row: log["rows"][row] for row in ROWS if row in log["rows"]}
    lines = [
        f"## {name}\n",
        f"{log['users']:,} users, {log['items']:,} items, {log['events']:,} events; test: {test['impressions']:,} "
        f"impressions, {test['positives']:,} liked, {test['disliked']:,} disliked, {test['users']:,} users with both "
        f"labels. Snapshot `{log['snapshot']}`; lr {settings['lr']:g}, {settings['epochs']} epochs at most, patience "
        f"{settings['patience']}; code {log['code_version']}. `{log['command']}`\n",
        "| | seeds | AUC | GAUC | MRR | NDCG | DFAR's gain in AUC | in GAUC | weights | training, s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row, entry in rows.items():
        cells = [row, str(entry["seeds"]), *(_spread(entry, metric) for metric in METRICS)]
        cells += [_interval(entry, metric) for metric in ("auc", "gauc")]
        cells += [f"{entry['parameters']:,}", f"{entry['train_seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    strata = [stratum.removeprefix("length_") for stratum in LENGTH_STRATA]
    lengths = [length for length in strata if any(length in entry["by_length"] for entry in rows.values())]
    lines += ["", f"| AUC by history length | {' | '.join(lengths)} |", f"|---|{'---|' * len(lengths)}"]
    for row, entry in rows.items():
        values = [entry["by_length"].get(length) for length in lengths]
        lines.append(f"| {row} | {' | '.join('' if value is None else f'{value:.4f}' for value in values)} |")
    return "\n".join([*lines, "", *_verdicts(rows)])


def _verdicts(rows: Mapping[str, Any]) -> list[str]:
    """What the paper claims, and whether it is seen here."""
    if MODEL not in rows:
        return []
    own = [row for row, (model, _) in ROWS.items() if model == "dfar" and row != MODEL and row in rows]
    readings = [row for row in own if row.startswith(MODEL)]
    ablations = [row for row in own if row not in readings]
    others = [row for row in rows if row not in (MODEL, *own)]
    seeds = rows[MODEL]["seeds"]
    told = [f"Of {seeds} seed{'s' if seeds > 1 else ''}. Where an interval holds zero, nothing is decided."]
    if others:
        best = max(others, key=lambda row: rows[row]["mean"]["auc"])
        told.append(
            f"Table 2 (Amazon: DFAR .7333, the best baseline, GRU4Rec, .7278, a gain of .0055 in AUC). Here the best "
            f"other model is {best}: {_interval(rows[best], 'auc')}, {_decided(rows[best])}."
        )
    if ablations:
        seen = "; ".join(f"{row}: {_interval(rows[row], 'auc')}, {_decided(rows[row])}" for row in ablations)
        told.append(f"Table 3 (every part pays). DFAR's gain in AUC here: {seen}.")
    if readings:
        seen = "; ".join(f"{row}: {_interval(rows[row], 'auc')}" for row in readings)
        told.append(f"Other readings of the paper and of its code, by DFAR's gain in AUC over them: {seen}.")
    return ["\n\n".join(told)]


def _decided(entry: Mapping[str, Any]) -> str:
    """Whether DFAR's gain is what the paper says."""
    _, low, high = entry["gain"]["auc"]
    return "as in the paper" if low > 0 else "the other way round" if high < 0 else "undecided"


def _spread(entry: Mapping[str, Any], metric: str) -> str:
    sd = entry["sd"][metric]
    return f"{entry['mean'][metric]:.4f}" + (f" ± {sd:.4f}" if sd is not None else "")


def _interval(entry: Mapping[str, Any], metric: str) -> str:
    if "gain" not in entry:
        return ""
    mean, low, high = entry["gain"][metric]
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
