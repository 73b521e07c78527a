"""One Airflow and one MLflow server on SQLite for all tests of this directory that only look or trigger."""

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.home import Home
from pipeline.services import control
from pipeline.services.client import AirflowClient
from pipeline.services.settings import HomeSettings, UpSettings
from tests.support.airflow_runs import airflow_command, run_ids, settled

TRAIN = {"HMAR_TRAIN__MAX_EPOCHS": "8", "HMAR_TRAIN__PATIENCE": "8", "HMAR_TRAIN__THREADS": "1"}
"""Short trainings, from the environment: the conf stays the one in the README."""


@dataclass(frozen=True)
class Services:
    """What ``hmar up`` has started."""

    home: Home
    state: control.State
    api: AirflowClient


def quiet() -> Console:
    return Console(file=io.StringIO())


@pytest.fixture(scope="session")
def sqlite_services() -> Iterator[Services]:
    root = Path(tempfile.mkdtemp(prefix="hmar-services-"))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
            patch.delenv(name)
        for name, value in TRAIN.items():
            patch.setenv(name, value)
        settings = UpSettings.resolve(
            {"home": root / "home", "database": "sqlite", "retry_seconds": 1}, use_environment=False
        )
        state = control.up(settings, quiet())
    with control.client(settings.paths) as api:
        yield Services(settings.paths, state, api)
    control.down(HomeSettings.resolve({"home": root / "home"}, use_environment=False), quiet())
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def first_run(sqlite_services: Services, movielens_log: Path) -> str:
    """The id of the run that the README's command started, ended well."""
    conf = f'{{"dataset": "movielens", "raw": "{movielens_log}"}}'
    done = airflow_command(sqlite_services.home, "dags", "trigger", "hmar_retrain", "--conf", conf)
    assert done.returncode == 0, done.stderr
    run_id = run_ids(sqlite_services.api, "hmar_retrain")[-1]
    settled(sqlite_services.api, "hmar_retrain", run_id, seconds=600)
    return run_id
