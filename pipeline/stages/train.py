"""One model, trained in a process of its own: a GPU is free when it ends, and a crash takes nobody along."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hmar.errors import Interrupted, ModelError, SettingsError
from pipeline.process import run_module
from pipeline.results import Built, Trained
from pipeline.settings import RetrainSettings
from pipeline.storage.atomic import write_json
from pipeline.training import training_settings, training_values

REQUEST = "request.json"


def train(
    s: RetrainSettings,
    built: Built,
    model: str,
    run: str,
    *,
    tracking: Mapping[str, Any] | None = None,
    relay: Callable[[str], None] | None = None,
    enough: Callable[[], bool] | None = None,
) -> Trained:
    """Train ``model`` on the snapshot, or go on where an earlier call with the same ``run`` was stopped.

    Args:
        tracking: where its MLflow run goes, over what the run says.
        relay, enough: see :func:`pipeline.process.run_module`.

    Raises:
        SettingsError: the model's settings are not valid, or ``run`` trained it on another snapshot.
        Interrupted: stopped after a checkpoint; the same call goes on. HmarError: what the process ended with.
    """
    from hmar.train.directory import read_record

    training_settings(s, model, built.snapshot, run)
    directory = s.paths.training(run, model)
    _refuse_other_snapshot(directory, built, run)
    request = directory / REQUEST
    values = training_values(s, model, built.snapshot, run)
    values["tracking"] |= tracking or {}
    write_json(request, values)
    what = f"training of {model}"
    if not run_module("hmar.train", ["--settings", str(request)], directory, what=what, relay=relay, enough=enough):
        raise Interrupted(f"{what}: stopped; the same call goes on from its last checkpoint")
    record = read_record(directory)
    if record.status != "finished" or not record.mlflow_run:
        raise ModelError(f"training of {model}: ended without a finished model ({directory / 'train.log'} says why)")
    return Trained(model=model, directory=directory, mlflow_run=record.mlflow_run)


def _refuse_other_snapshot(directory: Path, built: Built, run: str) -> None:
    from hmar.train.directory import read_record

    if not (directory / "run.json").exists():
        return
    trained_on = read_record(directory).snapshot
    if trained_on != built.id:
        raise SettingsError(
            f"run {run}: {directory} was trained on snapshot {trained_on}, which is now {built.id} (other events, "
            "settings or code); start a new run"
        )
