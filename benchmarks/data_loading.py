"""What gathering batches costs a training: how long its loop waits for them, and how much processor they take.

    python -m benchmarks.data_loading --raw path/to/ml-100k --work /somewhere/with/space

Every training runs in the trainer that a user's training runs in. Its epochs take turns: in one a thread gathers the
batches beside the steps, as always, in the next they lie ready. The last table is about the ways to make batches out
of users. Prints all and writes them to ``OUT``.md, with all numbers in ``OUT``.json; what is measured already is kept
beside what ``parts`` and ``models`` name.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import Field

from benchmarks.measure import gib, machine, run
from benchmarks.tables import kept, run_benchmark, tell
from hmar.settings import LayeredSettings
from hmar.threads import sleep_while_waiting

if TYPE_CHECKING:
    from hmar.train.loop import Trainer

LENGTH, USERS, WIDTH = 150, 128, 64
Training = Literal["sasrec bce", "sasrec cross_entropy", "hmar bce", "hmar cross_entropy"]
MODELS: tuple[Training, ...] = get_args(Training)
PLACES = ((1, False), (1, True), (4, False))
"""Threads of torch, and whether the whole process has one core only."""
WAYS: dict[str, dict[str, Any]] = {
    "shuffled, 128 users": {},
    "by_length, 128 users": {"batching": "by_length"},
    "shuffled, by positions": {"batch_tokens": True},
    "by_length, by positions": {"batch_tokens": True, "batching": "by_length"},
}


class DataLoadingBenchmark(LayeredSettings):
    """Time what gathering batches costs a training."""

    raw: Path | None = None
    """MovieLens 100K as it is published; none: the generated log only."""
    rows: int = Field(1_000_000, ge=1000)
    """Events of the generated log, about."""
    work: Path = Path(tempfile.gettempdir()) / "hmar-benchmark"
    """Directory for events and snapshots, which are kept for the next run."""
    parts: tuple[Literal["films", "generated", "batching"], ...] = ("films", "generated", "batching")
    """What is measured."""
    models: tuple[Training, ...] = MODELS
    """Whose trainings; the ways to make batches are measured with bce only."""
    seconds: float = Field(2.0, gt=0)
    """Of one epoch, about, where loading is measured: as many steps as fit in, five at least."""
    epochs: int = Field(3, ge=1)
    """Of each kind, where loading is measured; the medians count."""
    repeats: int = Field(1, ge=1)
    """Runs of each way to make batches, in turn; the medians count."""
    out: Path = Path("benchmarks/results/data_loading")
    """The tables are written to OUT.md, the numbers to OUT.json."""


def main(arguments: list[str]) -> int:
    """The command line; returns its exit code."""
    if arguments[:1] == ["child"]:
        sleep_while_waiting()  # as a training does
        print(json.dumps([train(given) for given in json.loads(arguments[1])]))
        return 0
    program = "python -m benchmarks.data_loading"
    return run_benchmark(lambda: DataLoadingBenchmark.resolve(arguments=arguments, program=program), _work)


def _work(s: DataLoadingBenchmark) -> None:
    result = measure(s)
    tell(s.out, result, markdown(result))


# -- the parent --------------------------------------------------------------------------------------------------------


def measure(s: DataLoadingBenchmark) -> dict[str, Any]:
    """The chosen parts, beside what an earlier call left.

    Raises:
        HmarError: a process failed.
    """
    result = kept(s.out)
    for part in s.parts:
        if part == "films" and s.raw is None:
            continue
        found = batching(s) if part == "batching" else loading(s, films(s) if part == "films" else generated(s))
        about = {"machine": machine(), "torch": _torch(), "date": time.strftime("%Y-%m-%d")}
        old = [one for one in result.get(part, {}).get("runs", []) if one["what"] not in s.models]
        result[part] = {**found, **about, "runs": old + found["runs"]}
    return result


def loading(s: DataLoadingBenchmark, snapshot: Path) -> dict[str, Any]:
    """Every model and loss with every number of threads, in one process."""
    given = [
        {"what": what, "threads": threads, "one_core": one_core} for what in s.models for threads, one_core in PLACES
    ]
    return {"runs": child(snapshot, "loading", given, seconds=s.seconds, epochs=s.epochs), "epochs": s.epochs}


def batching(s: DataLoadingBenchmark) -> dict[str, Any]:
    """Every way to make batches, over one whole epoch of the generated log, the same positions each time; in a process
    of its own, because its peak memory counts."""
    snapshot, runs = generated(s), []
    for what in s.models:
        for _ in range(s.repeats if what.endswith(" bce") else 0):
            for way in WAYS:
                given = {"what": what, "threads": 1, "one_core": False, "way": way}
                runs += child(snapshot, "batching", [given])
    return {"runs": runs, "repeats": s.repeats}


def child(snapshot: Path, kind: str, given: list[dict[str, Any]], **more: Any) -> list[dict[str, Any]]:
    """Trainings in a process; what each was given and what it told."""
    asked = [{**one, **more, "kind": kind, "snapshot": str(snapshot)} for one in given]
    _, output = run([sys.executable, "-m", "benchmarks.data_loading", "child", json.dumps(asked)])
    told: list[dict[str, Any]] = json.loads(output.strip().splitlines()[-1])
    return [{**one, **answer, "load": os.getloadavg()[0]} for one, answer in zip(given, told, strict=True)]


def films(s: DataLoadingBenchmark) -> Path:
    """The snapshot of MovieLens 100K, made unless it is there."""
    home = (s.work / "films").absolute()
    place = home / "snapshots" / "movielens"
    if not place.is_dir():
        for stage in ("ingest", "snapshot"):
            command = [sys.executable, "-m", "pipeline.cli", stage, "--dataset", "movielens", "--raw", str(s.raw)]
            run([*command, "--home", str(home)])
    return _only(place)


def generated(s: DataLoadingBenchmark) -> Path:
    """The snapshot of the generated log, made unless it is there."""
    from benchmarks.snapshot import NAME, events, run_snapshot

    home = events(s.work, s.rows, threads=2)
    if not home.snapshots(NAME).is_dir():
        run_snapshot(home, "1GB", threads=2)
    return _only(home.snapshots(NAME))


def _only(place: Path) -> Path:
    (snapshot,) = (path for path in place.iterdir() if path.is_dir())
    return snapshot


def _torch() -> str:
    from importlib.metadata import version

    return version("torch")


# -- the child ---------------------------------------------------------------------------------------------------------


class Watch:
    """Stands where the trainer's prefetch does and takes the time.

    Attributes:
        ready: whether an epoch's batches lie ready before its time begins.
        waited: seconds in which the loop waited, per epoch.
        worked: processor seconds of the thread that gathers, per epoch; none where the batches lay ready.
    """

    def __init__(self) -> None:
        from hmar.train import loop
        from hmar.train.prefetch import prefetch

        self.prefetch = prefetch
        self.ready = False
        self.waited: list[float] = []
        self.worked: list[float] = []
        loop.prefetch = self.watched  # type: ignore[attr-defined]

    @contextmanager
    def watched(self, source: Iterator[Any]) -> Iterator[Iterator[Any]]:
        self.waited.append(0.0)
        self.worked.append(0.0)
        if self.ready:
            yield iter(list(source))
            return
        with self.prefetch(self._timed(source)) as items:
            yield self._awaited(items)

    def _timed(self, source: Iterator[Any]) -> Iterator[Any]:
        while True:
            began = time.thread_time()
            item = next(source, None)
            self.worked[-1] += time.thread_time() - began
            if item is None:
                return
            yield item

    def _awaited(self, items: Iterator[Any]) -> Iterator[Any]:
        while True:
            began = time.perf_counter()
            item = next(items, None)
            self.waited[-1] += time.perf_counter() - began
            if item is None:
                return
            yield item


def train(given: dict[str, Any]) -> dict[str, Any]:
    """What the child does; its answer in numbers."""
    cores = os.sched_getaffinity(0)
    # Of this thread; the one that gathers comes later and has the same.
    os.sched_setaffinity(0, {min(cores)} if given["one_core"] else cores)
    measured = _loading if given["kind"] == "loading" else _batching
    try:
        with tempfile.TemporaryDirectory(prefix="hmar-data-loading-") as out:
            return measured({**given, "out": out})
    finally:
        os.sched_setaffinity(0, cores)


def _loading(given: dict[str, Any]) -> dict[str, Any]:
    watch = Watch()
    trial = _trainer(given, steps=3, max_epochs=2)
    trial.fit()
    per_step = trial.history[-1]["seconds"] / 3
    steps = max(5, min(_trainer(given).data.steps, round(given["seconds"] / per_step)))
    trainer = _trainer(given, steps=steps, max_epochs=2 * given["epochs"])
    watch.waited, watch.worked = [], []

    def turn(history: list[dict[str, Any]]) -> None:
        watch.ready = len(history) % 2 == 1

    turn([])
    trainer.on_epoch = turn
    trainer.fit()
    beside, ready = trainer.history[::2], trainer.history[1::2]
    seconds = [row["seconds"] for row in beside]
    pace, bare = (statistics.median(row["seconds"] / row["tokens"] for row in rows) for rows in (beside, ready))
    tokens = sum(row["tokens"] for row in beside)
    return {
        "steps": steps,
        "positions_per_step": tokens / steps / len(beside),
        "step_seconds": statistics.median(seconds) / steps,
        "waiting": statistics.median(a / b for a, b in zip(watch.waited[::2], seconds, strict=True)),
        "processor": statistics.median(a / b for a, b in zip(watch.worked[::2], seconds, strict=True)),
        "batch_seconds": statistics.median(watch.worked[::2]) / steps,
        "slower": pace / bare - 1,
    }


def _batching(given: dict[str, Any]) -> dict[str, Any]:
    import resource

    from benchmarks.measure import KILOBYTE

    way = dict(WAYS[given["way"]])
    usual = _trainer(given).data
    if way.get("batch_tokens"):
        way["batch_tokens"] = usual.tokens // usual.steps
    _trainer(given, steps=2, **way).fit()
    trainer = _trainer(given, **way)
    data: Any = trainer.data
    positions, order = data.windows.positions, data.order(0)
    tokens = [int(positions[order.batch(step)].sum()) for step in range(data.steps)]
    began = time.process_time()
    trainer.fit()
    processor = time.process_time() - began
    (row,) = trainer.history
    return {
        "steps": trainer.data.steps,
        "positions": row["tokens"],
        "seconds": row["seconds"],
        "processor_seconds": processor,
        "positions_of_batches": [min(tokens), statistics.median(tokens), max(tokens)],
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILOBYTE,
    }


def _trainer(given: dict[str, Any], steps: int | None = None, max_epochs: int = 1, **more: Any) -> "Trainer":
    """The trainer of a user's training, without MLflow, validation and output; of ``steps`` steps per epoch at most."""
    import torch

    from hmar.data.snapshot import Snapshot
    from hmar.losses import loss_function
    from hmar.models import model_class
    from hmar.models.base import Vocabulary
    from hmar.train.data import training_data
    from hmar.train.directory import TrainingDirectory
    from hmar.train.engine import set_up
    from hmar.train.loop import Trainer
    from hmar.train.progress import Reporter
    from hmar.train.settings import TrainSettings
    from hmar.train.signals import StopSignal

    name, loss_name = given["what"].split()
    out = tempfile.mkdtemp(dir=given["out"])
    values = {
        "model": name,
        "loss": loss_name,
        "threads": given["threads"],
        "snapshot": given["snapshot"],
        "out": out,
        "config": {"d": WIDTH},
        "max_length": LENGTH,
        "batch_size": USERS,
        "max_epochs": max_epochs,
        "device": "cpu",
        **more,
    }
    settings = TrainSettings.resolve(values, use_environment=False)
    device = set_up(settings)
    snapshot = Snapshot(settings.snapshot)
    torch.manual_seed(settings.seed)
    kind = model_class(settings.model)
    model: Any = kind(kind.Config.parse(settings.config), Vocabulary.of(snapshot))
    loss = loss_function(settings.loss, **settings.loss_options)
    data = training_data(settings, snapshot, model, loss)
    if steps is not None:
        data.steps = min(steps, data.steps)  # type: ignore[misc]
    return Trainer(
        settings,
        model,
        loss,
        data,
        device=device,
        directory=TrainingDirectory(Path(out)),
        reporter=Reporter(1e9, max_epochs, _quiet()),
        stop=StopSignal(),
        validate=None,
        on_epoch=lambda history: None,
    )


def _quiet() -> Any:
    from rich.console import Console

    return Console(quiet=True)


# -- the tables --------------------------------------------------------------------------------------------------------

NAMES = {"films": "MovieLens 100K", "generated": "A generated log"}


def markdown(result: dict[str, Any]) -> str:
    """All that is there."""
    tables = [_loading_table(part, result[part]) for part in NAMES if part in result]
    if "batching" in result:
        tables.append(_batching_table(result["batching"]))
    return "# Data loading\n\n" + "\n".join(tables)


def _loading_table(part: str, found: dict[str, Any]) -> str:
    lines = []
    for one in sorted(found["runs"], key=lambda one: MODELS.index(one["what"])):
        threads = "1, on one core" if one["one_core"] else str(one["threads"])
        lines.append(
            f"| {one['what']} | {threads} | {1e3 * one['step_seconds']:.0f} | {one['waiting']:.1%} | "
            f"{one['processor']:.1%} | {1e3 * one['batch_seconds']:.1f} | {one['slower']:+.1%} |"
        )
    worst = max(one["waiting"] for one in found["runs"])
    positions = statistics.mean(one["positions_per_step"] for one in found["runs"])
    return f"""## {NAMES[part]}

Steps of {USERS} users, {positions:,.0f} positions on average, at most {LENGTH} a user; width {WIDTH}, all else as the \
dataset's preset has it. Waiting: the part of the time of a step in which the loop waits for its batch. Loader: \
processor time of the thread that gathers (and plans attention), as a part of that time and per batch. Slower: than \
with all batches ready in memory, which is all that loading costs, fights for a core and for the interpreter included; \
noise is a few percent.

| | threads | step, ms | waiting | loader | loader, ms a batch | slower |
|---|---|---|---|---|---|---|
{chr(10).join(lines)}

Waiting is {worst:.1%} at most; the bar is 5%. {found["epochs"]} epochs of each kind in turn, medians. {_about(found)}
"""


def _batching_table(found: dict[str, Any]) -> str:
    lines = []
    for what in MODELS:
        of_model = [one for one in found["runs"] if one["what"] == what]
        base = None
        for way in WAYS if of_model else ():
            runs = [one for one in of_model if one["way"] == way]
            seconds = statistics.median(one["processor_seconds"] for one in runs)
            base = base or seconds
            least, median, most = runs[0]["positions_of_batches"]
            peak = statistics.median(one["peak"] for one in runs)
            lines.append(
                f"| {what} | {way} | {runs[0]['steps']} | {least:,.0f} / {median:,.0f} / {most:,.0f} | "
                f"{runs[0]['positions'] / seconds:,.0f} | {base / seconds:.2f} | {gib(peak)} |"
            )
    positions = found["runs"][0]["positions"]
    return f"""## Ways to make batches

One epoch of the generated log, {positions:,} positions each time, 1 thread; "by positions" has `batch_tokens` set to \
the mean of {USERS} users. Processor seconds, not wall time: with one thread they stand still while others compute. \
Attention sorts the users of a batch by length in any case, so by_length saves only what is still padded there.

| | batches | steps | positions: least / median / most | per processor second | times the first | peak memory |
|---|---|---|---|---|---|---|
{chr(10).join(lines)}

Medians of {found["repeats"]} runs in turn. {_about(found)}
"""


def _about(found: dict[str, Any]) -> str:
    load = max(one["load"] for one in found["runs"])
    return f"{found['date']}, {found['machine']}, torch {found['torch']}; load of the machine {load:.1f} at most."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
