"""A whole training with a real MLflow store: what it leaves on disk and in the run."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from filelock import FileLock

from hmar.data.snapshot import Snapshot
from hmar.errors import BusyError, DataError, Interrupted, ServiceError, SettingsError
from hmar.export import load
from hmar.tracking.run import TrackedRun
from hmar.train.directory import RunRecord, TrainingDirectory, read_record
from hmar.train.session import train
from hmar.train.settings import TrainSettings
from hmar.train.signals import StopSignal
from tests.support.training import cycle_snapshot, train_settings


def runs_of(settings: TrainSettings) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=settings.tracking.uri)
    experiment = client.get_experiment_by_name(settings.tracking.experiment)
    return [] if experiment is None else list(client.search_runs([experiment.experiment_id]))


@pytest.fixture(scope="module")
def trained(cycle: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainSettings, RunRecord]:
    """One finished training. Do not change it."""
    settings = train_settings(cycle, tmp_path_factory.mktemp("trained") / "out", max_epochs=4, eval_every=2)
    return settings, train(settings, StopSignal())


def test_the_directory_holds_what_the_next_stage_needs(trained: tuple[TrainSettings, RunRecord]) -> None:
    settings, record = trained
    out = settings.out
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        "settings.json", "run.json", "history.json", "train.log", "checkpoints", "best.safetensors", "model",
    }  # fmt: skip
    assert read_record(out) == record
    assert (record.status, record.epochs, record.model, record.split) == ("finished", 4, "sasrec", "leave_one_out")
    assert record.best_epoch in (2, 4)
    history = json.loads((out / "history.json").read_text(encoding="utf-8"))
    assert record.best_metric == max(row["validation"]["ndcg@10"] for row in history if row["validation"])
    assert json.loads((out / "settings.json").read_text(encoding="utf-8")) == settings.model_dump(mode="json")


def test_the_export_is_the_best_model(trained: tuple[TrainSettings, RunRecord]) -> None:
    from safetensors.torch import load_file

    settings, record = trained
    loaded = load(settings.out / "model")
    best = load_file(settings.out / "best.safetensors")
    exported = loaded.model.state_dict()
    assert best
    assert all(torch.equal(tensor, exported[name]) for name, tensor in best.items())
    assert (loaded.meta.snapshot, loaded.meta.max_length) == (record.snapshot, 10)
    items = pq.read_table(settings.out / "model" / "items.parquet")
    assert items.column("item_id").to_pylist() == [1000 + item for item in range(20)]


def test_the_run_says_how_it_was_made(trained: tuple[TrainSettings, RunRecord]) -> None:
    settings, record = trained
    (run,) = runs_of(settings)
    assert run.info.run_id == record.mlflow_run
    assert run.info.status == "FINISHED"
    params = run.data.params
    assert params["model"] == "sasrec"
    assert params["config.d"] == "16"
    assert params["snapshot"] == record.snapshot
    assert params["betas"] == "[0.9, 0.98]"
    tags = run.data.tags
    assert tags["hmar.training"] == record.training
    assert {"hmar.version", "hmar.device", "hmar.torch", "hmar.threads"} <= tags.keys()
    (given,) = run.inputs.dataset_inputs
    assert given.dataset.digest == record.snapshot
    assert json.loads(given.dataset.source)["uri"] == str(settings.snapshot.absolute())


def test_the_run_has_a_value_per_epoch_and_the_final_ones(trained: tuple[TrainSettings, RunRecord]) -> None:
    from mlflow import MlflowClient

    settings, record = trained
    client = MlflowClient(tracking_uri=settings.tracking.uri)
    assert record.mlflow_run is not None

    def steps(name: str) -> list[int]:
        return sorted(point.step for point in client.get_metric_history(record.mlflow_run, name))

    for name in ("train/loss", "train/tokens_per_second", "train/seconds", "system/memory_mb"):
        assert steps(name) == [1, 2, 3, 4]
    for name in ("train/validation/ndcg_at_10", "train/validation/hr_at_10", "train/validation/mrr"):
        assert steps(name) == [2, 4]
    metrics = client.get_run(record.mlflow_run).data.metrics
    assert metrics["train/best_validation_ndcg_at_10"] == pytest.approx(record.best_metric)
    assert metrics["train/best_epoch"] == record.best_epoch


def test_the_run_has_plots_weights_settings_and_one_model(trained: tuple[TrainSettings, RunRecord]) -> None:
    from mlflow import MlflowClient

    settings, record = trained
    client = MlflowClient(tracking_uri=settings.tracking.uri)
    run = record.mlflow_run
    assert run is not None
    found = {item.path for folder in ("plots", "checkpoint", "training") for item in client.list_artifacts(run, folder)}
    assert found == {
        "plots/loss.png", "plots/validation.png", "checkpoint/best.safetensors",
        "training/settings.json", "training/history.json", "training/train.log",
    }  # fmt: skip
    experiment = client.get_run(run).info.experiment_id
    (model,) = client.search_logged_models([experiment])
    assert (model.model_id, model.source_run_id) == (record.mlflow_model, run)
    location = client.get_experiment(experiment).artifact_location
    assert location.endswith("/mlartifacts")


def test_called_again_it_returns_at_once_and_changes_nothing(
    trained: tuple[TrainSettings, RunRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    settings, record = trained
    before = {path: path.stat().st_mtime_ns for path in settings.out.rglob("*.safetensors")}
    assert train(settings, StopSignal()) == record
    assert "finished before; nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in settings.out.rglob("*.safetensors")} == before
    assert len(runs_of(settings)) == 1


@pytest.mark.parametrize(
    ("values", "word"),
    [({"lr": 0.5}, "lr: "), ({"config": {"d": 8, "positions": 10}}, "config"), ({"seed": 9}, "seed")],
)
def test_other_settings_in_the_same_directory_are_refused(
    cycle: Snapshot, trained: tuple[TrainSettings, RunRecord], values: dict[str, Any], word: str
) -> None:
    settings, _ = trained
    other = train_settings(cycle, settings.out, **{"max_epochs": 4, "eval_every": 2, **values})
    with pytest.raises(SettingsError, match=word):
        train(other, StopSignal())


def test_how_it_runs_may_differ(cycle: Snapshot, trained: tuple[TrainSettings, RunRecord]) -> None:
    settings, record = trained
    other = train_settings(
        cycle, settings.out, max_epochs=4, eval_every=2, threads=2, log_seconds=1, checkpoint_seconds=7
    )
    assert train(other, StopSignal()) == record


def test_another_snapshot_in_the_same_directory_is_refused(
    trained: tuple[TrainSettings, RunRecord], tmp_path: Path
) -> None:
    settings, record = trained
    other = cycle_snapshot(tmp_path / "other", seed=1)
    with pytest.raises(SettingsError, match=f"snapshot {record.snapshot}, not {other.manifest.id}"):
        train(settings.model_copy(update={"snapshot": other.path}), StopSignal())


def test_a_rule_is_counted_judged_exported_and_logged(cycle: Snapshot, tmp_path: Path) -> None:
    settings = train_settings(cycle, tmp_path / "out", model="popularity", config={})
    record = train(settings, StopSignal())
    assert (record.status, record.epochs, record.best_epoch) == ("finished", 0, None)
    assert record.best_metric is not None
    assert record.mlflow_model is not None
    assert float(load(settings.out / "model").model.popularity.sum()) > 0
    (run,) = runs_of(settings)
    assert run.data.metrics["train/validation/ndcg_at_10"] == pytest.approx(record.best_metric)


def test_without_validation_targets_it_says_so_and_keeps_the_last_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = cycle_snapshot(tmp_path / "snapshot")
    path = snapshot.path / "splits" / "leave_one_out" / "targets.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 0), path)
    record = train(train_settings(snapshot, tmp_path / "out", max_epochs=2), StopSignal())
    assert "no validation targets: all 2 epochs are trained and the last weights kept" in capsys.readouterr().out
    assert (record.status, record.epochs, record.best_metric) == ("finished", 2, None)
    assert (tmp_path / "out" / "model" / "weights.safetensors").exists()


def test_two_processes_cannot_train_in_one_directory(cycle: Snapshot, tmp_path: Path) -> None:
    settings = train_settings(cycle, tmp_path / "out")
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(BusyError, match="another process is training here"):
        train(settings, StopSignal())


def test_an_unreachable_store_is_found_before_training_and_leaves_the_directory_free(
    cycle: Snapshot, tmp_path: Path
) -> None:
    settings = train_settings(cycle, tmp_path / "out", tracking={"uri": "http://127.0.0.1:9"})
    with pytest.raises(ServiceError, match=r"http://127\.0\.0\.1:9"):
        train(settings, StopSignal())
    assert not (tmp_path / "out" / "checkpoints").exists()
    assert "ServiceError" in (tmp_path / "out" / "train.log").read_text(encoding="utf-8")
    assert read_record(tmp_path / "out").status == "interrupted"
    changed = train_settings(cycle, tmp_path / "out", max_epochs=1, lr=1e-4)
    assert train(changed, StopSignal()).status == "finished"


def test_no_snapshot_no_split(cycle: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a snapshot"):
        train(train_settings(tmp_path / "nowhere", tmp_path / "a"), StopSignal())
    with pytest.raises(DataError, match="no split 'temporal'"):
        train(train_settings(cycle, tmp_path / "b", split="temporal"), StopSignal())


def test_a_configuration_that_does_not_fit_the_data_can_be_corrected(cycle: Snapshot, tmp_path: Path) -> None:
    wrong = train_settings(cycle, tmp_path / "out", model="hmar", max_epochs=1, config={"alpha": {"bought": 1.0}})
    with pytest.raises(SettingsError, match="bought"):
        train(wrong, StopSignal())
    right = train_settings(cycle, tmp_path / "out", model="hmar", max_epochs=1, config={"alpha": {"buy": 1.0}})
    assert train(right, StopSignal()).status == "finished"
    assert len(runs_of(right)) == 1


def test_a_death_before_the_run_id_was_written_down_makes_no_second_run(
    cycle: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies between creating the MLflow run and writing run.json."""
    settings = train_settings(cycle, tmp_path / "out", max_epochs=1)
    write = TrainingDirectory.write_record

    def die(self: TrainingDirectory, record: RunRecord) -> None:
        if record.mlflow_run is not None:
            raise KeyboardInterrupt
        write(self, record)

    monkeypatch.setattr(TrainingDirectory, "write_record", die)
    with pytest.raises(KeyboardInterrupt):
        train(settings, StopSignal())
    assert len(runs_of(settings)) == 1
    monkeypatch.undo()
    record = train(settings, StopSignal())
    (run,) = runs_of(settings)
    assert run.info.run_id == record.mlflow_run


def test_a_death_after_the_model_was_logged_logs_no_second_one(
    cycle: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    settings = train_settings(cycle, tmp_path / "out", max_epochs=2)

    def die(self: Any, status: str) -> None:
        raise Interrupted("now")

    monkeypatch.setattr(TrackedRun, "finish", die)
    with pytest.raises(Interrupted):
        train(settings, StopSignal())
    monkeypatch.undo()
    assert read_record(tmp_path / "out").status == "interrupted"
    record = train(settings, StopSignal())
    client = MlflowClient(tracking_uri=settings.tracking.uri)
    (run,) = runs_of(settings)
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert model.model_id == record.mlflow_model
    assert sorted(point.step for point in client.get_metric_history(run.info.run_id, "train/loss")) == [1, 2]
