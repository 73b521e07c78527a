"""The stages of a benchmark: prepare a dataset, search a row's settings, run a cell. What is finished is found again.

::

    <home>/benchmarks/<name>/raw/                                   made-up logs
    <home>/benchmarks/<name>/published/<dataset>.json               which events this benchmark has published
    <home>/benchmarks/<name>/prepared/<dataset>-<key>.json          the snapshot of these settings
    <home>/benchmarks/<name>/tuned/<dataset>/<split>/<row>-<key>.json    what a search has found
    <home>/benchmarks/<name>/cells/<dataset>/<split>/<row>-<seed>-<key>.json    a finished cell

A key is a digest of all that decides the content, so a changed row has files of its own. Trainings, studies, events and
snapshots lie where those of other runs do.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hmar.errors import BusyError, DataError, SettingsError
from pipeline.benchmark import cells
from pipeline.benchmark.settings import BenchmarkSettings
from pipeline.home import run_key
from pipeline.process import run_module
from pipeline.results import Built, Cell, Evaluated, Landed, Measured, Prepared, Searched, Trained
from pipeline.settings import RetrainSettings
from pipeline.storage.atomic import read_json, write_json
from pipeline.storage.events_store import MANIFEST, read_manifest
from pipeline.storage.lock import dataset_lock

if TYPE_CHECKING:
    from hmar.tune.study import Tried

Relay = Callable[[str], None]

PATIENCE_SECONDS = 1800
"""How long a dataset is waited for that another process prepares."""


# -- datasets --------------------------------------------------------------------------------------------------------


def prepare(b: BenchmarkSettings, dataset: str) -> Prepared:
    """Read, judge and publish the raw log, and build its snapshot, with all splits; what is there is reused.

    Raises:
        SettingsError: events of this name are there that this benchmark has not published.
        HmarError: as the stages ingest, validate and snapshot.
    """
    from pipeline.stages.ingest import land
    from pipeline.stages.inspect import inspect
    from pipeline.stages.snapshot import build
    from pipeline.stages.validate import validate

    _make_log(b, dataset)
    s = _with_splits(b, dataset)
    landed = _in_turn(lambda: land(s))
    _claim(b, s, landed)
    published = _in_turn(lambda: validate(s, landed))
    built = _in_turn(lambda: inspect(s, build(s, published)))
    found = Prepared(dataset=dataset, built=built, accounts=published.accounts)
    write_json(_prepared_file(b, s), found.model_dump(mode="json"))
    return found


def _claim(b: BenchmarkSettings, s: RetrainSettings, landed: Landed) -> None:
    """Refuse to replace the events of a nightly run, or of another benchmark, that has a dataset of the same name; note
    what is ours before it is published, so that a kill between the two does not make it foreign."""
    events, file = s.paths.events(s.name), b.directory / "published" / f"{s.name}.json"
    ours = list((read_json(file) or {}).get("fingerprints", []))
    if not landed.reused and (events / MANIFEST).is_file():
        manifest = read_manifest(events)
        if manifest.fingerprint not in ours:
            inputs = ", ".join(one.name for one in manifest.inputs[:3]) + (", ..." if len(manifest.inputs) > 3 else "")
            raise SettingsError(
                f"datasets.{s.name}: {events} holds events that benchmark {b.name} has not published ({inputs}), and "
                "they would be replaced; give the dataset another name, or the benchmark a --home of its own"
            )
    if landed.fingerprint not in ours:
        write_json(file, {"fingerprints": [*ours, landed.fingerprint]})


def prepared(b: BenchmarkSettings, dataset: str) -> Prepared | None:
    """The dataset as these settings prepared it last; None where they never did."""
    s = _with_splits(b, dataset)
    found = read_json(_prepared_file(b, s))
    if found is None:
        return None
    told = Prepared.model_validate(found)
    # Where the data directory lies now, should it have moved.
    snapshot = s.paths.snapshots(s.name) / told.built.id
    return told.model_copy(update={"built": Built(snapshot=snapshot, id=told.built.id)}) if snapshot.is_dir() else None


def ready(b: BenchmarkSettings, dataset: str) -> Prepared:
    """The same.

    Raises:
        DataError: it was not prepared yet.
    """
    found = prepared(b, dataset)
    if found is None:
        raise DataError(f"benchmark {b.name}: dataset {dataset} is not prepared with these settings; run that first")
    return found


def _with_splits(b: BenchmarkSettings, dataset: str) -> RetrainSettings:
    s = cells.data_settings(b, dataset)
    snapshot = s.snapshot.model_copy(update={"splits": tuple(dict.fromkeys([*s.snapshot.splits, *b.splits]))})
    return s.model_copy(update={"snapshot": snapshot})


def _prepared_file(b: BenchmarkSettings, s: RetrainSettings) -> Path:
    values = s.model_dump(mode="json", include={"source", "table", "ingest", "snapshot"})
    values["log"] = b.datasets[s.name].model_dump(mode="json", include={"raw", "generated", "settings"})
    return b.directory / "prepared" / f"{s.name}-{cells.digest(values)}.json"


def _make_log(b: BenchmarkSettings, dataset: str) -> None:
    log = b.datasets[dataset].generated
    raw = cells.raw_log(b, dataset)
    if log is None or raw.exists():
        return
    from pipeline.simulate import simulate

    raw.parent.mkdir(parents=True, exist_ok=True)
    told = log.model_dump()
    simulate(told.pop("source"), raw, **told)


def _in_turn(work: Callable[[], Any]) -> Any:
    """What ``work`` returns, once no other process is writing the dataset."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return work()
        except BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


# -- searches --------------------------------------------------------------------------------------------------------


def search(
    b: BenchmarkSettings,
    cell: Cell,
    built: Built,
    *,
    tell: Callable[["Tried"], None] | None = None,
    relay: Relay | None = None,
    stop: threading.Event | None = None,
) -> Searched:
    """Search the settings of the cell's row on its dataset and split; the seed of the cell does not matter.

    Args:
        tell, relay, stop: see :func:`pipeline.stages.tune.attempt`.

    Raises:
        HmarError: as the stage tune.
    """
    from hmar.tune.study import Study, best
    from pipeline.stages import tune

    cell = cells.search_of(b, cell)
    found = searched(b, cell, built)
    if found is not None:
        return found
    s = cells.tune_settings(b, cell.dataset, cell.split, cell.row)
    s = s.model_copy(update={"study": cells.study_of(b, cell, s, built)})
    planned = tune.plan(s, built)
    tune.attempt(s, built, planned, tell=tell, relay=relay, stop=stop)
    tuned = tune.conclude(s, built, planned)
    study = Study.load(planned.file)
    winner = best(study.trials())
    assert winner is not None
    result = Searched(
        dataset=cell.dataset,
        split=cell.split,
        row=cell.row,
        settings=study.space.settings(winner.values),
        trials=tuned.trials,
        epochs=tuned.epochs,
        seconds=tuned.seconds,
    )
    write_json(_searched_file(b, cell, built), result.model_dump(mode="json"))
    return result


def searched(b: BenchmarkSettings, cell: Cell, built: Built) -> Searched | None:
    """What the search for the cell's row has found; None where it is not over. Without one nothing is found."""
    cell = cells.search_of(b, cell)
    if not cells.trials(b, b.rows[cell.row]):
        nothing: dict[str, Any] = {"settings": {}, "trials": 0, "epochs": 0, "seconds": 0.0}
        return Searched(dataset=cell.dataset, split=cell.split, row=cell.row, **nothing)
    found = read_json(_searched_file(b, cell, built))
    return Searched.model_validate(found) if found else None


def _searched_file(b: BenchmarkSettings, cell: Cell, built: Built) -> Path:
    from pipeline import tuning

    s = cells.tune_settings(b, cell.dataset, cell.split, cell.row)
    key = cells.digest({**tuning.definition(s, built), "trials": s.trials})
    return b.directory / "tuned" / cell.dataset / cell.split / f"{run_key(cell.row)}-{key}.json"


# -- cells -----------------------------------------------------------------------------------------------------------


def run(
    b: BenchmarkSettings,
    cell: Cell,
    built: Built,
    *,
    relay: Relay | None = None,
    enough: Callable[[], bool] | None = None,
) -> Measured:
    """Train the cell's model with the settings that were found, judge it, measure what it costs.

    Args:
        relay, enough: see :func:`pipeline.process.run_module`.

    Raises:
        DataError: its settings were not searched yet. BusyError: another process runs this cell.
        HmarError: as the stages train and evaluate. Interrupted: stopped; the same call goes on.
    """
    from pipeline.stages.evaluate import evaluate
    from pipeline.stages.train import train

    found = measured(b, cell, built)
    if found is not None:
        return found
    s, file = _of_cell(b, cell, built)
    row, key = b.rows[cell.row], file.stem.rsplit("-", 1)[1]
    name = cells.run_of(b, cell, key)
    directory = s.paths.training(name, row.model)
    with dataset_lock(directory.parent / "cell.lock", name):
        tags = {"hmar.benchmark": b.name, "hmar.row": cell.row, "hmar.split": cell.split, "hmar.seed": str(cell.seed)}
        tracking = {
            "experiment": b.experiment,
            "run_name": f"{cell.row}, {cell.dataset}, {cell.split}, seed {cell.seed}",
            "tags": {"hmar.dataset": cell.dataset, "hmar.model": row.model, **tags},
            "weights": False,
        }
        trained = train(s, built, row.model, name, tracking=tracking, relay=relay, enough=enough)
        evaluated = evaluate(s, built, trained, relay=relay)
        cost = _cost(s, built, trained, relay)
        write_json(file, _result(s, built, cell, trained, evaluated, cost))
    shutil.rmtree(directory / "checkpoints", ignore_errors=True)
    return Measured(cell=cell, file=file)


def measured(b: BenchmarkSettings, cell: Cell, built: Built) -> Measured | None:
    """The cell as it was finished with these settings; None where it was not."""
    if searched(b, cell, built) is None:
        return None
    _, file = _of_cell(b, cell, built)
    return Measured(cell=cell, file=file) if read_json(file) else None


def _of_cell(b: BenchmarkSettings, cell: Cell, built: Built) -> tuple[RetrainSettings, Path]:
    """A cell's settings and the file of its result."""
    found = searched(b, cell, built)
    if found is None:
        raise DataError(f"{cell.dataset}, {cell.split}, {cell.row}: its search is not over; run it first")
    s = cells.retrain_settings(b, cell.dataset, cell.split, cell.row, cell.seed, found.settings)
    key = cells.digest(cells.made_of(s, built))
    return s, b.directory / "cells" / cell.dataset / cell.split / f"{run_key(cell.row)}-{cell.seed}-{key}.json"


def _cost(s: RetrainSettings, built: Built, trained: Trained, relay: Relay | None) -> dict[str, Any]:
    """Parameters and the time of scoring, measured by a process of its own."""
    own = {**s.train, **s.overrides.get(trained.model, {})}
    out = trained.directory / "scoring.json"
    flags = {
        "model-dir": trained.directory / "model",
        "snapshot": built.snapshot,
        "split": s.split,
        "out": out,
        "device": own.get("device", "auto"),
    }
    arguments = [word for flag, value in flags.items() for word in (f"--{flag}", str(value))]
    run_module("hmar.evaluate.cost", arguments, trained.directory / "cost", what="timing", relay=relay)
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def _result(
    s: RetrainSettings,
    built: Built,
    cell: Cell,
    trained: Trained,
    evaluated: Evaluated,
    scoring: dict[str, Any],
) -> dict[str, Any]:
    from hmar.tracking.environment import environment_tags, processor
    from hmar.train import cost
    from hmar.train.directory import read_record
    from pipeline.judged import read_report

    record, report = read_record(trained.directory), read_report(trained.directory, built.id, s.split)
    try:
        history = json.loads((trained.directory / "history.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        history = []
    processes = cost.read(trained.directory)
    code = environment_tags(str(report["made"]["device"]), int(report["made"]["threads"]))
    return {
        "cell": cell.model_dump(mode="json"),
        "model": trained.model,
        "made_of": cells.made_of(s, built),
        "directory": str(trained.directory.relative_to(s.paths.root)),
        "mlflow_run": trained.mlflow_run,
        "epochs": record.epochs,
        "best_epoch": record.best_epoch,
        "leaks": list(evaluated.leaks),
        "metrics": report["metrics"],
        "cost": {
            "parameters": scoring["parameters"],
            "milliseconds_per_1000": scoring["milliseconds"],
            "train_seconds": sum(row["seconds"] for row in history),
            "validation_seconds": sum(row["validation_seconds"] or 0.0 for row in history),
            "cpu_seconds": sum(one["cpu_seconds"] for one in processes),
            "wall_seconds": sum(one["seconds"] for one in processes) + report["made"]["seconds"],
            "peak_mb": max((one["peak_mb"] for one in processes), default=None),
            "gpu_peak_mb": max((one["gpu_peak_mb"] for one in processes), default=None),
        },
        "scoring": scoring,
        "made": {
            **{name.removeprefix("hmar."): value for name, value in code.items()},
            **report["made"],
            "machine": f"{processor()}, {os.cpu_count()} cores",
        },
    }
