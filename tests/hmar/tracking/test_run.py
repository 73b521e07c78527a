import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from hmar.data.snapshot import Snapshot
from hmar.errors import ServiceError
from hmar.tracking.dataset import snapshot_input
from hmar.tracking.plots import loss_curve, validation_curve
from hmar.tracking.run import Point, TrackedRun, flatten
from tests.support.training import blank_store, cycle_snapshot


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return blank_store(tmp_path / "mlflow.db")


def open_run(uri: str, identity: str = "one", **values: str) -> TrackedRun:
    return TrackedRun.open(uri, **{"experiment": "trial", "identity": identity, "name": "sasrec", **values})  # type: ignore[arg-type]


def test_a_new_run_has_its_name_tags_and_an_artifact_place_beside_the_database(uri: str, tmp_path: Path) -> None:
    run = TrackedRun.open(uri, experiment="trial", identity="one", name="sasrec", tags={"hmar.x": "y"})
    stored = run.client.get_run(run.run_id)
    assert stored.info.run_name == "sasrec"
    assert stored.info.status == "RUNNING"
    assert (stored.data.tags["hmar.training"], stored.data.tags["hmar.x"]) == ("one", "y")
    experiment = run.client.get_experiment(stored.info.experiment_id)
    assert experiment.artifact_location == (tmp_path / "mlartifacts").as_uri()


def test_an_explicit_artifact_place_is_used(uri: str, tmp_path: Path) -> None:
    run = open_run(uri, artifacts=str(tmp_path / "elsewhere"))
    file = tmp_path / "note.txt"
    file.write_text("x", encoding="utf-8")
    run.log_file(file, "notes")
    assert [path.name for path in (tmp_path / "elsewhere").rglob("note.txt")] == ["note.txt"]


def test_the_same_identity_is_the_same_run_and_another_is_another(uri: str) -> None:
    first = open_run(uri)
    first.finish("KILLED")
    again = open_run(uri)
    assert again.run_id == first.run_id
    assert again.client.get_run(again.run_id).info.status == "RUNNING"
    assert open_run(uri, identity="two").run_id != first.run_id


def test_a_known_run_is_continued_by_its_id(uri: str) -> None:
    first = open_run(uri)
    assert TrackedRun.open(uri, experiment="other", identity="?", name="n", run_id=first.run_id).run_id == first.run_id
    assert TrackedRun.attach(uri, first.run_id).run_id == first.run_id
    with pytest.raises(ServiceError, match="no-such-run"):
        TrackedRun.attach(uri, "no-such-run")


def test_parameters_are_logged_once_and_never_changed(uri: str) -> None:
    run = open_run(uri)
    run.log_params({f"p{number}": number for number in range(130)})
    run.log_params({"p0": "changed", "new": "x" * 10_000})
    params = run.client.get_run(run.run_id).data.params
    assert len(params) == 131
    assert params["p0"] == "0"
    assert params["new"] == "x" * 5000


def test_many_values_arrive_whole(uri: str) -> None:
    run = open_run(uri)
    run.log_metrics([Point("train/loss", 1 / (1 + step), step, 1000.0 + step) for step in range(1500)])
    assert run.steps_of("train/loss") == set(range(1500))
    assert run.steps_of("never") == set()
    history = {point.step: point for point in run.client.get_metric_history(run.run_id, "train/loss")}
    assert (history[3].value, history[3].timestamp) == (0.25, 1_003_000)


def test_the_snapshot_is_an_input_by_its_id(uri: str, tmp_path: Path) -> None:
    snapshot = cycle_snapshot(tmp_path / "snapshot")
    run = open_run(uri)
    for _ in range(2):
        run.log_input(snapshot_input(snapshot, "leave_one_out"))
    (given,) = run.client.get_run(run.run_id).inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("made_up", snapshot.manifest.id)
    assert {(tag.key, tag.value) for tag in given.tags} >= {("split", "leave_one_out")}

    assert json.loads(given.dataset.profile)["accounts"] == snapshot.manifest.accounts

    import mlflow

    assert mlflow.data.get_source(given).load() == str(Snapshot(snapshot.path).path.absolute())


def test_figures_are_drawn_without_a_display(uri: str) -> None:
    run = open_run(uri)
    run.log_figure(loss_curve([1, 2, 3], [3.0, 2.0, 1.0]), "plots/loss.png")
    run.log_figure(validation_curve([1, 2], [0.1, 0.2], 2, "ndcg@10"), "plots/validation.png")
    artifacts = run.client.list_artifacts(run.run_id, "plots")
    assert all(item.file_size > 5000 for item in artifacts)
    assert len(artifacts) == 2


def test_a_deleted_experiment_is_explained(uri: str) -> None:
    run = open_run(uri)
    run.client.delete_experiment(run.client.get_run(run.run_id).info.experiment_id)
    with pytest.raises(ServiceError, match="'trial' was deleted; restore it"):
        open_run(uri, identity="two")


def test_flatten() -> None:
    assert flatten({"a": 1, "b": {"c": {"d": 2}, "e": [3]}}) == {"a": 1, "b.c.d": 2, "b.e": [3]}


def test_runs_that_log_one_dataset_at_once_all_have_it(uri: str) -> None:
    from mlflow.entities import Dataset, DatasetInput

    runs = [open_run(uri, identity=f"run {number}") for number in range(4)]
    ready = Barrier(len(runs))

    def log(run: TrackedRun, digest: str) -> None:
        ready.wait(timeout=60)
        run.log_input(DatasetInput(Dataset("films", digest, "local", "{}")))

    with ThreadPoolExecutor(len(runs)) as pool:
        for digest in map(str, range(5)):
            list(pool.map(log, runs, [digest] * len(runs)))
    for run in runs:
        logged = run.client.get_run(run.run_id).inputs.dataset_inputs
        assert sorted(int(one.dataset.digest) for one in logged) == list(range(5))
