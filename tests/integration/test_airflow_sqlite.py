"""``hmar_retrain`` under a live scheduler on SQLite: it ends with a champion, and survives what befalls it."""

import json
import os
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from hmar.errors import SettingsError
from pipeline.home import run_key
from pipeline.results import Evaluated
from tests.integration.conftest import Services
from tests.support.airflow_runs import failures, fingerprint, finish, instance, settled, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def mlflow_client(services: Services) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(services.home.mlflow_uri, registry_uri=services.home.mlflow_uri)


def evaluated(services: Services, run_id: str) -> dict[str, Evaluated]:
    """What each model of a run came to."""
    found = {}
    for one in services.api.task_instances("hmar_retrain", run_id):
        if one["task_id"] == "evaluate":
            result = services.api.result("hmar_retrain", run_id, "evaluate", one["map_index"])
            found[result["model"]] = Evaluated.model_validate(result)
    return found


def test_the_readmes_command_ends_with_a_champion(sqlite_services: Services, first_run: str) -> None:
    api = sqlite_services.api
    state = api.run_state("hmar_retrain", first_run)
    assert state == "success", failures(api, "hmar_retrain", first_run)
    client = mlflow_client(sqlite_services)
    (model,) = client.search_registered_models()
    champion = client.get_model_version_by_alias(model.name, "champion")
    promoted = api.result("hmar_retrain", first_run, "promote")
    assert (promoted["name"], promoted["champion"]) == (model.name, str(champion.version))
    assert set(evaluated(sqlite_services, first_run)) == {"hmar", "sasrec", "popularity", "recent"}
    assert Path(api.result("hmar_retrain", first_run, "report")["path"]).is_file()
    assert Path(api.result("hmar_retrain", first_run, "recommend")["path"]).exists()


def test_trainings_take_turns_and_carry_their_models_names(sqlite_services: Services, first_run: str) -> None:
    instances = sqlite_services.api.task_instances("hmar_retrain", first_run)
    trainings = sorted((one for one in instances if one["task_id"] == "train"), key=lambda one: one["start_date"])
    assert [one["rendered_map_index"] for one in trainings] == ["hmar", "sasrec", "popularity", "recent"]
    assert {one["pool"] for one in trainings} == {"gpu"}
    for earlier, later in pairwise(trainings):
        assert earlier["end_date"] <= later["start_date"]


def test_a_second_run_reuses_events_and_snapshot(
    sqlite_services: Services, first_run: str, movielens_log: Path
) -> None:
    home, api = sqlite_services.home, sqlite_services.api
    kept = (home.events("movielens"), home.snapshots("movielens"))
    before = fingerprint(*kept)
    assert before
    again = finish(api, {"dataset": "movielens", "raw": str(movielens_log), "models": ["recent"]})
    assert fingerprint(*kept) == before
    assert api.result("hmar_retrain", again, "ingest")["reused"]
    assert not api.result("hmar_retrain", again, "validate")["changed"]
    assert api.result("hmar_retrain", again, "snapshot")["reused"]
    assert (
        api.result("hmar_retrain", again, "snapshot")["id"] == api.result("hmar_retrain", first_run, "snapshot")["id"]
    )


def test_killed_training_and_killed_task_end_in_the_same_result(
    sqlite_services: Services, first_run: str, movielens_log: Path
) -> None:
    home, api = sqlite_services.home, sqlite_services.api
    run_id = api.trigger("hmar_retrain", {"dataset": "movielens", "raw": str(movielens_log), "models": ["sasrec"]})
    directory = home.training(run_key(run_id), "sasrec")

    def training() -> psutil.Process | None:
        """Once there is a checkpoint to go on from."""
        try:
            process = psutil.Process(json.loads((directory / "process.json").read_text())["pid"])
            return process if any((directory / "checkpoints").glob("*.pt")) else None
        except (OSError, ValueError, psutil.NoSuchProcess):
            return None

    first = wait_for("the training has not begun", training)
    first.send_signal(signal.SIGKILL)
    wait_for("the killed training still runs", lambda: not first.is_running() or first.status() == "zombie")

    def second_training() -> psutil.Process | None:
        process = training()
        return process if process and process.pid != first.pid else None

    second = wait_for("the training was not tried again", second_training)
    task = second.parent()
    assert task is not None
    task.send_signal(signal.SIGKILL)
    wait_for("the training outlives its task", lambda: not second.is_running() or second.status() == "zombie")

    state = settled(api, "hmar_retrain", run_id)
    assert state == "success", failures(api, "hmar_retrain", run_id)
    assert instance(api, run_id, "train")["try_number"] == 3
    log = (directory / "train.log").read_text()
    assert "resum" in log.lower() or "contin" in log.lower(), log
    undisturbed = evaluated(sqlite_services, first_run)["sasrec"].metrics
    assert evaluated(sqlite_services, run_id)["sasrec"].metrics == undisturbed


def test_bad_data_fails_at_once(sqlite_services: Services, tmp_path: Path) -> None:
    (tmp_path / "u.data").write_text("this is no log of ratings\n" * 20)
    api = sqlite_services.api
    run_id = api.trigger("hmar_retrain", {"dataset": "movielens", "raw": str(tmp_path), "name": "broken"})
    assert settled(api, "hmar_retrain", run_id) == "failed"
    failed = [one for one in api.task_instances("hmar_retrain", run_id) if one["state"] == "failed"]
    assert [one["try_number"] for one in failed] == [1]
    (message,) = api.errors("hmar_retrain", run_id, failed[0])
    assert message.startswith("DataError: ")
    assert "u.data" in message
    assert "\n" not in message


def test_an_unknown_key_of_the_conf_is_named_by_the_first_task(sqlite_services: Services, movielens_log: Path) -> None:
    conf = {"dataset": "movielens", "raw": str(movielens_log), "modles": ["recent"]}
    api = sqlite_services.api
    run_id = api.trigger("hmar_retrain", conf)
    assert settled(api, "hmar_retrain", run_id) == "failed"
    check = instance(api, run_id, "check")
    assert (check["state"], check["try_number"]) == ("failed", 1)
    assert api.errors("hmar_retrain", run_id, check) == [
        "SettingsError: modles: unknown setting; did you mean 'models'?"
    ]


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"dataset": "movielense"}, "dataset"),
        ({"seed": "seven"}, "seed"),
        ({"models": ["hmra"]}, "hmra"),
        ({"promote": {"confidence": 2}}, "promote"),
        ({"snapshot": {"k_cor": {"user": 5}}}, "k_cor"),
    ],
)
def test_a_bad_value_is_refused_by_the_api(sqlite_services: Services, conf: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        sqlite_services.api.trigger("hmar_retrain", {"dataset": "movielens", "raw": os.devnull, **conf})
