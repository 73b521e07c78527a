"""The search for one model's settings: planned, tried, concluded. A trial is one training in a process of its own."""

import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hmar.errors import Interrupted, ModelError
from pipeline import tuning
from pipeline.process import run_module
from pipeline.results import Attempted, Built, Planned, Tuned
from pipeline.signals import stopped_by_signals
from pipeline.stages.train import REQUEST
from pipeline.storage.atomic import write_json, write_text
from pipeline.storage.lock import dataset_lock
from pipeline.tune_settings import TuneSettings

if TYPE_CHECKING:
    from hmar.train.directory import RunRecord
    from hmar.tune.study import RunningTrial, Study, Tried

DEATHS = 3
"""So often a training may be killed from outside before its settings are held to blame."""

_LOOK_SECONDS = 0.5

Relay = Callable[[str], None]


def plan(s: TuneSettings, built: Built) -> Planned:
    """Begin the study, or find it again, and plan its trials. Its MLflow run is open afterwards.

    Raises:
        SettingsError: a search space or settings that cannot be trained, or the study was begun with others.
        DataError: the snapshot has no validation targets. ServiceError: MLflow does not answer.
    """
    from hmar.data.snapshot import Snapshot
    from hmar.tune.legal import refuse_for
    from hmar.tune.study import Study

    tuning.check(s)
    snapshot = Snapshot(built.snapshot)
    refuse_for(snapshot, tuning.space(s), tuning.common(s, built.snapshot))
    name = tuning.study_name(s, built)
    directory = s.paths.study(name, s.model)
    definition = tuning.definition(s, built)
    study = Study.create(directory / "study.db", definition)
    study.plan(s.trials)
    write_json(directory / "definition.json", definition)
    run = _open_run(s, built, name, study)
    return Planned(study=name, directory=directory, trials=s.trials, mlflow_run=run)


def attempt(
    s: TuneSettings,
    built: Built,
    planned: Planned,
    numbers: Sequence[int] = (),
    *,
    tell: Callable[["Tried"], None] | None = None,
    relay: Relay | None = None,
    stop: threading.Event | None = None,
) -> list[Attempted]:
    """Run trials, ``parallel`` of them at a time; those that are over already are not repeated, those that were cut
    off go on from their last checkpoint.

    Args:
        numbers: of the trials; all of the study if empty.
        tell: called with every trial when it is over.
        relay: gets the lines of the trainings; printed if not given.
        stop: ends it when set; if not given, a signal does.

    Raises:
        Interrupted: a signal came; the same call goes on. HmarError: what would end any trial, not just this one.
    """
    from hmar.tune.study import Study

    wanted = [one for one in Study.load(planned.file).trials() if one.number in (numbers or range(planned.trials))]
    done = [Attempted(number=one.number, state=one.state, value=one.value) for one in wanted if one.over]
    todo = [one.number for one in wanted if not one.over]
    with nullcontext(stop) if stop else stopped_by_signals() as stop, ThreadPoolExecutor(s.parallel) as pool:
        running: set[Future[Tried]] = set()
        try:
            while (todo or running) and not stop.is_set():
                while todo and len(running) < s.parallel:
                    running.add(pool.submit(_one, s, built, planned, todo.pop(0), stop, relay))
                over, running = wait(running, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)
                for one in sorted((future.result() for future in over), key=lambda tried: tried.number):
                    done.append(Attempted(number=one.number, state=one.state, value=one.value))
                    if tell is not None:
                        tell(one)
        except BaseException:
            stop.set()
            raise
        for future in running:  # told to stop: each leaves a checkpoint
            future.result()
    if stop.is_set():
        raise Interrupted(f"study {planned.study}: stopped by a signal; the same call goes on")
    return done


def conclude(s: TuneSettings, built: Built, planned: Planned) -> Tuned:
    """Write down the best settings, and tell MLflow what was found at what price.

    Raises:
        ModelError: no trial was completed. ServiceError: MLflow does not answer.
    """
    from hmar.tune.study import Study, best

    study = Study.load(planned.file)
    tried = study.trials()
    for one in tried:
        if one.over:
            _tidy(tuning.trial_directory(s, planned.study, one.number))
    found = best(tried)
    if found is None or found.value is None:
        reasons = [f"trial {one.number}: {one.reason}" for one in tried if one.reason]
        raise ModelError(
            f"study {planned.study}: no trial was completed ({reasons[0] if reasons else 'all were cut short'}); "
            "change search, or set pruning.kind none"
        )
    file = planned.directory / "best.yaml"
    write_text(file, _best_file(s, study, planned, found))
    write_json(planned.directory / "trials.json", [_row(study, one) for one in tried if one.state != "waiting"])
    over = [one for one in tried if one.over]
    result = Tuned(
        study=planned.study,
        best=file,
        trial=found.number,
        value=found.value,
        trials=len(over),
        epochs=sum(one.epochs for one in over),
        seconds=sum(one.seconds for one in over),
        mlflow_run=planned.mlflow_run,
    )
    _log_study(s, planned, study, tried, result)
    return result


# -- one trial -------------------------------------------------------------------------------------------------------


def _one(
    s: TuneSettings, built: Built, planned: Planned, number: int, stop: threading.Event, relay: Relay | None
) -> "Tried":
    """Bring one trial to its end, unless it is there or the study's time is up."""
    from hmar.tune.study import Study

    study = Study.load(planned.file)
    out = tuning.trial_directory(s, planned.study, number)
    with dataset_lock(out.with_suffix(".lock"), f"trial {number} of study {planned.study}"):
        tried = study.trials()
        time_is_up = s.timeout is not None and sum(one.seconds for one in tried) >= s.timeout
        if not (tried[number].over or stop.is_set() or (tried[number].state == "waiting" and time_is_up)):
            trial = study.begin(number)
            values = tuning.trial_values(s, built, planned.study, number, trial.settings, planned.mlflow_run)
            write_json(out / REQUEST, values)
            _train(s, trial, out, stop, relay)
        found = study.trials()[number]
        if found.over:
            _tidy(out)
        return found


def _train(s: TuneSettings, trial: "RunningTrial", out: Path, stop: threading.Event, relay: Relay | None) -> None:
    """Train, go on training, or find it trained; then tell the study.

    Raises:
        Interrupted: told to stop. HmarError: what would end any trial.
    """
    from hmar.train.directory import TrainingDirectory

    watch = trial.watch(TrainingDirectory(out).history)
    failure = ""
    deaths = 0
    # A former call may have been killed between the verdict and its execution.
    while not watch():
        try:
            run_module(
                "hmar.train",
                ["--settings", str(out / REQUEST)],
                out,
                what=f"trial {trial.number} of {s.model}",
                relay=relay,
                enough=lambda: stop.is_set() or watch(),
            )
        except ModelError as error:
            if not _began(out):  # a defect of the installation says nothing about these settings
                raise
            failure = str(error)
        except Interrupted as error:
            deaths += 1
            if not stop.is_set() and deaths < DEATHS:
                continue
            failure = "" if stop.is_set() else str(error)
        break
    # The last epochs may have come between two looks. Whatever stops a study, a verdict is kept.
    pruned = watch()
    if stop.is_set() and not pruned and not failure and not _finished(out):
        raise Interrupted(f"trial {trial.number} of {s.model}: stopped; the same call goes on from its last checkpoint")
    _tell(s, trial, out, "pruned" if pruned else "failed" if failure else "complete", failure)


def _tell(s: TuneSettings, trial: "RunningTrial", out: Path, state: str, failure: str) -> None:
    """The study and the trial's own MLflow run, which first: what is told is told."""
    from hmar.tracking.run import TrackedRun

    record = _record(out)
    notes: dict[str, Any] = _cost(out)
    if record is not None and record.mlflow_run:
        notes |= {"run": record.mlflow_run, "best_epoch": record.best_epoch}
        TrackedRun.attach(s.mlflow_uri, record.mlflow_run).set_tags({"hmar.trial.state": state})
    if state == "pruned":
        trial.prune(**notes)
    elif state == "failed":
        trial.fail(failure, **notes)
    elif record is None or record.best_metric is None:
        trial.fail("ended without a validation metric", **notes)
    else:
        trial.complete(record.best_metric, **notes)


def _began(out: Path) -> bool:
    """Whether the training came so far as to have an MLflow run."""
    record = _record(out)
    return record is not None and record.mlflow_run is not None


def _finished(out: Path) -> bool:
    record = _record(out)
    return record is not None and record.status == "finished"


def _record(out: Path) -> "RunRecord | None":
    from hmar.train.directory import TrainingDirectory, read_record

    return read_record(out) if TrainingDirectory(out).record.exists() else None


def _cost(out: Path) -> dict[str, Any]:
    """Epochs trained, and the seconds of training and validating them."""
    import json

    from hmar.train.directory import TrainingDirectory

    try:
        rows = json.loads(TrainingDirectory(out).history.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"epochs": 0, "seconds": 0.0}
    return {"epochs": len(rows), "seconds": sum(row["seconds"] + (row["validation_seconds"] or 0.0) for row in rows)}


def _tidy(out: Path) -> None:
    """Delete what a trial that is over no longer needs: its weights. Settings, history and log stay."""
    from hmar.train.directory import TrainingDirectory

    directory = TrainingDirectory(out)
    for heavy in (directory.checkpoints, directory.model):
        shutil.rmtree(heavy, ignore_errors=True)
    directory.best.unlink(missing_ok=True)


# -- MLflow and files ------------------------------------------------------------------------------------------------


def _open_run(s: TuneSettings, built: Built, name: str, study: "Study") -> str:
    from hmar.data.snapshot import Snapshot
    from hmar.tracking.dataset import snapshot_input
    from hmar.tracking.run import TrackedRun, flatten

    run = TrackedRun.open(
        s.mlflow_uri,
        experiment=tuning.experiment(s),
        artifacts="" if s.tracking_uri else str(s.paths.mlflow_artifacts),
        identity=study.identity,
        name=f"{s.model} {name}",
        tags={"hmar.study": name, "hmar.dataset": s.name, "hmar.model": s.model},
    )
    run.log_params(flatten({key: value for key, value in study.definition.items() if key != "search"}))
    run.log_params({f"search.{key}": str(found) for key, found in study.space.dimensions.items()})
    run.log_input(snapshot_input(Snapshot(built.snapshot), s.split))
    return run.run_id


def _log_study(s: TuneSettings, planned: Planned, study: "Study", tried: "list[Tried]", result: Tuned) -> None:
    from hmar.tracking.run import Point, TrackedRun
    from hmar.tune import plots
    from hmar.tune.study import importances

    run = TrackedRun.attach(s.mlflow_uri, planned.mlflow_run)
    known = run.steps_of("tune/value")
    values = [Point("tune/value", one.value, one.number) for one in tried if one.over and one.value is not None]
    run.log_metrics([point for point in values if point.step not in known])
    counts = {state: sum(one.state == state for one in tried) for state in ("complete", "pruned", "failed")}
    totals = {"best": result.value, "best_trial": result.trial, "trials": result.trials} | counts
    totals |= {"epochs": result.epochs, "seconds": result.seconds}
    run.log_metrics([Point(f"tune/{name}", float(value), result.trials) for name, value in totals.items()])
    run.log_figure(plots.history(tried, study.metric), "plots/history.png")
    run.log_figure(plots.curves(tried, result.trial, study.metric), "plots/curves.png")
    if found := importances(study):
        run.log_figure(plots.importances(found), "plots/importances.png")
    for file in (result.best, planned.directory / "trials.json", planned.directory / "definition.json"):
        run.log_file(file, "study")
    run.finish("FINISHED")


def _best_file(s: TuneSettings, study: "Study", planned: Planned, found: "Tried") -> str:
    import yaml

    about = (
        f"# The best settings of {s.model} that study {planned.study} has found: trial {found.number}, validation\n"
        f"# {study.metric} {found.value:.4f} at epoch {found.best_epoch}. To train with them:\n"
        f"# hmar retrain --settings THIS --dataset {s.dataset} ...\n"
    )
    settings = study.space.settings(found.values)
    return about + yaml.safe_dump(tuning.best_settings(s, settings), sort_keys=False, default_flow_style=False)


def _row(study: "Study", one: "Tried") -> dict[str, Any]:
    from dataclasses import asdict

    return {**asdict(one), "settings": study.space.settings(one.values) if one.over else {}}
