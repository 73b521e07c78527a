"""Seconds until SASRec reaches a fixed validation NDCG@10: this project against RecTools and RecBole.

    python -m benchmarks.time_to_quality --movielens path/to/ml-100k --work /somewhere/with/space

All learn the same events (those of the split leave_one_out), with the same width, blocks, heads, dropout and history
length, each with exact cross-entropy over the catalog in its own way of batching, and are judged after every epoch on
the same validation targets and candidates. This project's contender is the real ``python -m hmar.train``, tracking and
checkpoints included; the others are benchmarks/learners.py in environments of their own (benchmarks/peers.py).

First this project and RecTools are tuned over the same grid (batch size, learning rate) at one seed; the fixed value is
:data:`SHARE` of the lower of their best values, and each goes on with the settings that reached it in the least
training time. RecBole, whose epoch takes minutes, has its default batch and the learning rate that was best here. Then
they are timed in turn, another seed each time. A run that is done is kept in the work directory and not repeated, and
``--stop-after`` ends between two runs, so that the same command again goes on.
"""

import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from benchmarks.measure import machine
from benchmarks.measure import run as run_process
from benchmarks.peers import NAMES, environment
from benchmarks.tables import run_benchmark, tell
from hmar.data.snapshot import Snapshot
from hmar.errors import HmarError
from hmar.settings import LayeredSettings, nearest
from hmar.train.validation import SELECT_ON
from pipeline.storage.atomic import write_json

SPLIT = "leave_one_out"
NETWORK: dict[str, Any] = {"d": 64, "blocks": 2, "heads": 2, "dropout": 0.2, "length": 100}
"""The same for all."""
GRID: dict[str, list[dict[str, Any]]] = {
    "ml-100k": [*({"batch_size": 32, "lr": lr} for lr in (1e-3, 2e-3, 4e-3)), {"batch_size": 128, "lr": 1e-3}],
    "1m": [{"batch_size": 32, "lr": 1e-3}, {"batch_size": 128, "lr": 1e-3}, {"batch_size": 128, "lr": 4e-3}],
}
"""What this project and RecTools are tuned over; 128 and 1e-3 are the defaults of RecTools."""
WIDE_BATCH = 2048
"""RecBole's default; its batch is one of single positions, each with its own history."""
SHARE = 0.97
CONTENDERS = ("hmar", "rectools", "recbole")
NAME = "films"
SIMULATED: dict[str, dict[str, int]] = {
    "ml-100k": {"users": 943, "items": 1682, "events-per-user": 106, "seed": 5},
    "1m": {"users": 10_000, "items": 3500, "events-per-user": 100, "days": 1500, "seed": 5},
}
"""Logs by ``hmar simulate``; the first only where no path to MovieLens 100K is given."""
PATIENCE = 10
"""Evaluations without a better value after which a run ends."""
LABELS = {"hmar": "hmar", **NAMES}
BOUND = 4
"""A peer has so many times hmar's seconds at least: enough to show the ratio that is asked for."""
OWN_SECONDS = 600
"""Longest timed run of hmar, which its patience ends before."""
POLL_SECONDS = 0.05

EVENTS = """
copy (
    select
        users.user_id,
        items.item_id,
        cast(events.event_time as timestamp) + to_microseconds(events.file_row_number - ends.first) as event_time,
        cast(1 as float) as weight
    from read_parquet('{snapshot}/events.parquet', file_row_number = true) as events
    inner join ends on events.user = ends.user
    inner join read_parquet('{snapshot}/users.parquet') as users on events.user = users.user
    inner join read_parquet('{snapshot}/items.parquet') as items on events.item = items.item
    where events.file_row_number < ends.train_end
    order by users.user_id, events.event_time, events.file_row_number
) to '{out}' (format parquet)
"""
"""A microsecond per place, so that events of one second keep the snapshot's order everywhere."""
ATOMIC_FILE = """
copy (
    select
        user_id as "user_id:token",
        item_id as "item_id:token",
        row_number() over (order by user_id, event_time) as "timestamp:float"
    from read_parquet('{training}')
) to '{out}' (format csv, delimiter '\t', header)
"""
"""RecBole's own format; it keeps times as float32, in which seconds since 1970 are not seconds any more."""


class TimeToQuality(LayeredSettings):
    """Time SASRec to a fixed validation NDCG@10 against RecTools and RecBole."""

    movielens: Path | None = None
    """Directory of MovieLens 100K; none: a generated log of its size."""
    work: Path = Path(tempfile.gettempdir()) / "hmar-benchmark"
    """Directory for logs, environments and finished runs; what is there is used again."""
    peers: Path | None = None
    """Directory of the peers' environments; none: in the work directory."""
    logs: list[str] = Field(default_factory=lambda: list(SIMULATED))
    """Which logs: ml-100k, 1m."""
    contenders: list[str] = Field(default_factory=lambda: list(CONTENDERS))
    """Which contenders: hmar, rectools, recbole."""
    threads: list[int] = Field(default_factory=lambda: [1, 4])
    repeats: int = Field(5, ge=1)
    """Timed runs of each, another seed each time; on the log of a million events three at most, RecBole has one."""
    quick: bool = False
    """Three timed runs, on the log of a million events one."""
    tuning_seconds: float = Field(100, gt=0)
    """Longest run of the grid."""
    seconds: float = Field(110, gt=0)
    """Longest timed run of a peer, or :data:`BOUND` times what hmar took if that is longer; where it ends there, its
    time is a lower bound."""
    recbole_seconds: float = Field(400, gt=0)
    """Longest run of RecBole with the most threads."""
    stop_after: float | None = Field(None, gt=0)
    """Seconds after which no further run is started; the same command again goes on."""
    out: Path = Path("benchmarks/results/time_to_quality")
    """The tables are written to OUT.md, everything behind them to OUT.json."""

    @field_validator("logs", "contenders")
    @classmethod
    def _known(cls, names: list[str], info: ValidationInfo) -> list[str]:
        known = list(SIMULATED) if info.field_name == "logs" else list(CONTENDERS)
        for name in names:
            if name not in known:
                raise ValueError(f"unknown {name!r}{nearest(name, known)}")
        if "hmar" in known and "hmar" not in names:
            raise ValueError("hmar is what the others are compared with; add it")
        return [name for name in known if name in names]


class NotDone(HmarError):
    """``stop_after`` is over."""


@dataclass(frozen=True)
class Log:
    """A log as the contenders read it: a snapshot, and beside it files in source ids."""

    name: str
    snapshot: Path
    directory: Path
    snapshot_seconds: float
    """What ``hmar snapshot`` took."""


@dataclass(frozen=True)
class Run:
    """One training of one contender."""

    log: Log
    who: str
    batch_size: int
    lr: float
    threads: int
    seed: int
    seconds: float
    enough: float | None = None

    @property
    def key(self) -> str:
        """The name under which it is kept."""
        reach = "best" if self.enough is None else f"{self.enough:.5f}"
        return (
            f"{self.log.name}-{self.who}-b{self.batch_size}-lr{self.lr:g}-t{self.threads}-s{self.seed}-{reach}"
            f"-{self.seconds:g}"
        )


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    program = "python -m benchmarks.time_to_quality"
    return run_benchmark(lambda: TimeToQuality.resolve(arguments=arguments, program=program), _work)


def _work(s: TimeToQuality) -> None:
    try:
        result = measure(s)
    except NotDone as error:
        print(error)
        return
    tell(s.out, result, markdown(result))


def measure(s: TimeToQuality) -> dict[str, Any]:
    """Tune, choose, time.

    Raises:
        NotDone: there is more to do. HmarError: a run failed.
    """
    bench = _Bench(s)
    found: dict[str, Any] = {}
    for name in s.logs:
        log = prepare(s, name)
        tuned = {who: [bench.one(run) for run in grid_runs(s, log, who)] for who in s.contenders}
        value = SHARE * min(max(best(run) for run in runs) for runs in tuned.values() if runs)
        chosen = {who: choose(runs, value) for who, runs in tuned.items() if runs}
        if "recbole" in s.contenders:
            chosen["recbole"] = {"batch_size": WIDE_BATCH, "lr": chosen["hmar"]["lr"]}
        timed: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for seed in range(repeats(s, name)):
            for threads in s.threads:
                ours = 0.0
                for who in s.contenders:
                    if who == "recbole" and seed:
                        continue
                    run = Run(log, who, **chosen[who], threads=threads, seed=seed, enough=value,
                              seconds=limit(s, who, threads, ours))  # fmt: skip
                    made = bench.one(run)
                    timed.setdefault(who, {}).setdefault(str(threads), []).append(made)
                    if who == "hmar":
                        ours = made["evaluations"][-1]["at"]
        manifest = Snapshot(log.snapshot).manifest
        found[name] = {
            "events": manifest.events,
            "users": manifest.users,
            "items": manifest.items,
            "targets": manifest.splits[SPLIT]["validation"]["targets"],
            "generated": name != "ml-100k" or s.movielens is None,
            "snapshot_seconds": log.snapshot_seconds,
            "value": value,
            "tuned": tuned,
            "chosen": chosen,
            "timed": timed,
        }
    return {
        "network": NETWORK,
        "logs": found,
        "machine": machine(),
        "torch": _torch(),
        "date": time.strftime("%Y-%m-%d"),
    }


def repeats(s: TimeToQuality, name: str) -> int:
    """Timed runs of each contender on a log."""
    few, many = (1, 3) if name == "1m" else (3, s.repeats)
    return min(s.repeats, few if s.quick else many)


def limit(s: TimeToQuality, who: str, threads: int, ours: float) -> float:
    """Seconds of a timed run at most, where hmar took ``ours``."""
    if who == "hmar":
        return OWN_SECONDS
    if who == "recbole":
        return s.recbole_seconds if threads == max(s.threads) else s.seconds
    return max(s.seconds, round(BOUND * ours))


def grid_runs(s: TimeToQuality, log: Log, who: str) -> list[Run]:
    """The runs that tune a contender."""
    if who == "recbole":
        return []
    return [
        Run(log, who, **point, threads=max(s.threads), seed=0, seconds=s.tuning_seconds) for point in GRID[log.name]
    ]


def best(made: Mapping[str, Any]) -> float:
    """The highest NDCG@10 of a run."""
    return max((row["ndcg"] for row in made["evaluations"]), default=0.0)


def reached(made: Mapping[str, Any], value: float) -> dict[str, Any] | None:
    """The first evaluation at or above ``value``."""
    return next((row for row in made["evaluations"] if row["ndcg"] >= value), None)


def choose(runs: Sequence[Mapping[str, Any]], value: float) -> dict[str, Any]:
    """The point of the grid that reached ``value`` in the least training time, else the one that came nearest."""

    def cost(made: Mapping[str, Any]) -> tuple[float, float]:
        row = reached(made, value)
        return (float("inf"), -best(made)) if row is None else (row["train"], 0.0)

    made = min(runs, key=cost)
    return {"batch_size": made["batch_size"], "lr": made["lr"]}


def prepare(s: TimeToQuality, name: str) -> Log:
    """The log of that name, its snapshot and the files for the others, made unless they are there."""
    home = (s.work / f"quality-{name}").absolute()
    directory = home / "learners"
    told = home / "snapshot_seconds"
    if not told.is_file():
        raw = s.movielens if name == "ml-100k" and s.movielens is not None else _simulate(home, name)
        words = ["--dataset", "movielens", "--name", NAME, "--raw", str(raw), "--home", str(home)]
        run_process([sys.executable, "-m", "pipeline.cli", "ingest", *words])
        cost, _ = run_process([sys.executable, "-m", "pipeline.cli", "snapshot", *words])
        export(_snapshot(home), directory)
        told.write_text(str(cost.seconds), encoding="utf-8")
    return Log(name, _snapshot(home), directory, float(told.read_text(encoding="utf-8")))


def _simulate(home: Path, name: str) -> Path:
    raw = home / "raw"
    dials = [word for dial, value in SIMULATED[name].items() for word in (f"--{dial}", str(value))]
    run_process([sys.executable, "-m", "pipeline.cli", "simulate", "--source", "movielens", "--out", str(raw), *dials])
    return raw


def _snapshot(home: Path) -> Path:
    (snapshot,) = (path for path in (home / "snapshots" / NAME).iterdir() if path.is_dir())
    return snapshot


def export(snapshot: Path, directory: Path) -> None:
    """What learners.py reads: training events and validation targets in source ids."""
    import duckdb
    import numpy as np
    import pyarrow as pa

    from hmar.data.counting import popularity
    from hmar.evaluate.ranking import consumed_cells

    opened = Snapshot(snapshot)
    ends = opened.train_end(SPLIT)
    targets = opened.targets(SPLIT, "validation")
    if (ends[targets.user] != targets.history_end).any():
        raise HmarError(f"{snapshot}: a validation target's history is not its user's training events")
    (directory / "recbole").mkdir(parents=True, exist_ok=True)
    training = directory / "training.parquet"
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        users = np.arange(len(ends), dtype=np.int32)
        connection.register("ends", pa.table({"user": users, "first": opened.offsets[:-1], "train_end": ends}))
        connection.execute(EVENTS.format(snapshot=snapshot, out=training))
        connection.execute(ATOMIC_FILE.format(training=training, out=directory / "recbole" / "recbole.inter"))
    row, item = consumed_cells(opened, targets.user, targets.history_end)
    np.savez(
        directory / "targets.npz",
        user_id=np.array(opened.users.column("user_id").take(targets.user).to_pylist()),
        item=targets.item.astype(np.int64),
        catalog=targets.catalog.astype(np.int64),
        seen_row=row,
        seen_item=item,
        item_id=np.array(opened.items.column("item_id").to_pylist()),
        popularity=popularity(opened, SPLIT, opened.target_behavior),
    )


class _Bench:
    """Makes runs, and keeps what they told."""

    def __init__(self, s: TimeToQuality) -> None:
        self.s = s
        self.began = time.monotonic()
        self.kept = s.work.absolute() / "quality-runs"
        self.kept.mkdir(parents=True, exist_ok=True)

    def one(self, run: Run) -> dict[str, Any]:
        """What a run tells, from an earlier call if it was made then.

        Raises:
            NotDone: ``stop_after`` is over. HmarError: it failed.
        """
        path = self.kept / f"{run.key}.json"
        if path.is_file():
            kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return kept
        if self.s.stop_after is not None and time.monotonic() - self.began > self.s.stop_after:
            raise NotDone("more runs to do; the same command goes on")
        print(run.key, flush=True)
        told = self._hmar(run) if run.who == "hmar" else self._other(run)
        made = {"batch_size": run.batch_size, "lr": run.lr, "seed": run.seed, "threads": run.threads, **told}
        write_json(path, made)
        return made

    def _other(self, run: Run) -> dict[str, Any]:
        settings = {
            **NETWORK, "lr": run.lr, "batch_size": run.batch_size, "threads": run.threads, "seed": run.seed,
            "seconds": run.seconds, "patience": PATIENCE, "enough": run.enough,
        }  # fmt: skip
        python = environment((self.s.peers or self.s.work).absolute(), run.who)
        script = Path(__file__).with_name("learners.py")
        lines = _lines(
            [str(python), str(script), run.who, str(run.log.directory), repr(time.time()), json.dumps(settings)],
            {"PYTHONPATH": "", "OMP_NUM_THREADS": str(run.threads)},
            run.log.directory,
        )
        return {**lines[0], "evaluations": lines[1:]}

    def _hmar(self, run: Run) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=self.s.work) as home:
            return train(run, Path(home), self.s.work.absolute() / "mlflow.db")


def train(run: Run, home: Path, tracking: Path) -> dict[str, Any]:
    """``python -m hmar.train``, ended by SIGTERM as soon as its history holds what was waited for.

    Raises:
        HmarError: it failed.
    """
    out, log = home / "training", home / "output"
    flags = {
        "model": "sasrec",
        "snapshot": run.log.snapshot,
        "out": out,
        "split": SPLIT,
        "config": json.dumps({key: NETWORK[key] for key in ("d", "blocks", "heads", "dropout")}),
        "loss": "cross_entropy",
        "batch-size": run.batch_size,
        "lr": run.lr,
        "max-length": NETWORK["length"],
        "max-epochs": 10_000,
        "eval-every": 1,
        "patience": PATIENCE,
        "seed": run.seed,
        "threads": run.threads,
        "tracking.uri": f"sqlite:///{tracking}",
    }
    words = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
    with log.open("w", encoding="utf-8") as stream:
        started = time.time()
        child = subprocess.Popen([sys.executable, "-m", "hmar.train", *words], stdout=stream, stderr=stream)
    stopped = False
    while child.poll() is None:
        time.sleep(POLL_SECONDS)
        rows = _history(out)
        enough = run.enough is not None and any(row["validation"][SELECT_ON] >= run.enough for row in rows)
        if not stopped and (enough or time.time() - started > run.seconds):
            child.send_signal(signal.SIGTERM)
            stopped = True
    rows = _history(out)
    if (child.returncode and not stopped) or not rows:
        raise HmarError(f"{run.key} ended with {child.returncode}: {log.read_text(encoding='utf-8')[-2000:]}")
    trained = list(accumulate(row["seconds"] for row in rows))
    first = rows[0]
    return {
        "prepared": first["at"] - first["validation_seconds"] - first["seconds"] - started,
        "evaluations": [
            {
                "epoch": row["epoch"],
                "train": seconds,
                "judge": row["validation_seconds"],
                "at": row["at"] - started,
                "ndcg": row["validation"][SELECT_ON],
            }
            for row, seconds in zip(rows, trained, strict=True)
        ],
    }


def _history(out: Path) -> list[dict[str, Any]]:
    """The judged epochs so far."""
    try:
        rows = json.loads((out / "history.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return [row for row in rows if row["validation"] is not None]


def summary(runs: Sequence[Mapping[str, Any]], value: float) -> dict[str, Any]:
    """Medians over runs of the seconds to ``value``; where one did not get there, of what it had spent by its end.

    ``reached`` counts the runs that did; with fewer than all of them the seconds are a lower bound.
    """
    rows = [reached(made, value) for made in runs]
    ends = [row or made["evaluations"][-1] for row, made in zip(rows, runs, strict=True)]
    judged = [sum(row["judge"] for row in made["evaluations"] if row["at"] <= end["at"])
              for made, end in zip(runs, ends, strict=True)]  # fmt: skip
    return {
        "runs": len(runs),
        "reached": sum(row is not None for row in rows),
        "at": statistics.median(end["at"] for end in ends),
        "least": min(end["at"] for end in ends),
        "most": max(end["at"] for end in ends),
        "train": statistics.median(end["train"] for end in ends),
        "prepared": statistics.median(made["prepared"] for made in runs),
        "judge": statistics.median(judged),
        "epochs": statistics.median(end["epoch"] for end in ends),
        "ndcg": statistics.median(end["ndcg"] for end in ends),
    }


def markdown(result: Mapping[str, Any]) -> str:
    """A table per log and number of threads."""
    network = ", ".join(f"{name} {value}" for name, value in result["network"].items())
    parts = [
        "# Time to a validation NDCG@10: SASRec here, in RecTools and in RecBole",
        "The same training events, validation targets and candidates (full ranking, consumed items excluded) for all; "
        f"{network}; exact cross-entropy over the catalog, judged after every epoch. hmar is `python -m hmar.train` "
        "with its checkpoints and an MLflow run in SQLite. Seconds are medians over runs, a seed each. *In all*: from "
        "the start of the process to the end of the first evaluation at or above the value. *Training*: steps alone. "
        "`>`: the value was not reached in the time given.",
    ]
    for name, log in result["logs"].items():
        parts.append(_section(name, log))
    parts.append(f"{result['date']}, {result['machine']}, torch {result['torch']}.")
    return "\n\n".join(parts) + "\n"


def _section(name: str, log: Mapping[str, Any]) -> str:
    value, tables = log["value"], []
    for threads in sorted({int(threads) for runs in log["timed"].values() for threads in runs}):
        told = {who: summary(runs[str(threads)], value) for who, runs in log["timed"].items() if str(threads) in runs}
        ours = told.get("hmar")
        lines = [
            f"### {threads} thread{'s' if threads > 1 else ''}\n",
            "| | in all, s | least to most | training, s | start and data, s | evaluations, s | epochs | runs | "
            "in all against hmar | training against hmar |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for who, row in told.items():
            mark = "" if row["reached"] == row["runs"] else "> "
            ratios = (
                [f"{mark}{row[key] / ours[key]:.1f}x" for key in ("at", "train")]
                if ours and who != "hmar"
                else ["", ""]
            )
            cells = [
                LABELS[who],
                f"{mark}{row['at']:.1f}",
                f"{row['least']:.1f} to {row['most']:.1f}",
                f"{mark}{row['train']:.2f}",
                f"{row['prepared']:.1f}",
                f"{row['judge']:.2f}",
                f"{row['epochs']:.3g}" + (f" ({row['ndcg']:.4f})" if mark else ""),
                f"{row['runs']}",
                *ratios,
            ]
            lines.append(f"| {' | '.join(cells)} |")
        tables.append("\n".join(lines))
    chosen = "; ".join(
        f"{LABELS[who]}: batch {point['batch_size']}, lr {point['lr']:g}" for who, point in log["chosen"].items()
    )
    tried = "; ".join(
        f"{LABELS[who]} " + ", ".join(f"{made['batch_size']}/{made['lr']:g}: {best(made):.4f}" for made in runs)
        for who, runs in log["tuned"].items()
        if runs
    )
    kind = "generated by `hmar simulate`" if log["generated"] else "MovieLens 100K"
    return "\n\n".join(
        [
            f"## {name}: NDCG@10 of {value:.4f}",
            f"{log['events']:,} events of {log['users']:,} users with {log['items']:,} items, {kind}; "
            f"{log['targets']:,} validation targets. The value is {SHARE:.0%} of the lowest of the contenders' best in "
            f"tuning (batch/lr: best NDCG@10): {tried}. Timed with {chosen}. hmar starts from a snapshot, which "
            f"`hmar snapshot` built in {log['snapshot_seconds']:.1f} s; the others from events of the split in source "
            "ids.",
            *tables,
        ]
    )


def _lines(command: Sequence[str], environment: Mapping[str, str], directory: Path) -> list[dict[str, Any]]:
    """The JSON lines that a process printed, run in ``directory``, where it may leave logs of its own."""
    _, output = run_process(command, environment, directory)
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def _torch() -> str:
    import torch

    return str(torch.__version__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
