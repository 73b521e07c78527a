"""The composition of docker-compose.yml by hand: Airflow and the MLflow server on PostgreSQL, tasks through the server.

On it: hmar_ingest publishes, its asset starts the scheduled retraining, and that ends with a champion.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hmar.errors import ServiceError
from pipeline.home import Home
from pipeline.services import airflow, control, mlflow_server
from pipeline.services.daemon import stop
from pipeline.services.ports import HOST, any_free
from pipeline.services.postgres import Postgres, find_programs
from pipeline.services.settings import HomeSettings, UpSettings
from tests.integration.conftest import TRAIN, Services, quiet
from tests.support.airflow_runs import failures, finish, run_ids, settled, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def services(taobao_log: Path) -> Iterator[Services]:
    try:
        find_programs()
    except ServiceError as error:
        pytest.skip(str(error))
    root = Path(tempfile.mkdtemp(prefix="hmar-postgres-"))
    root.chmod(0o755)  # PostgreSQL refuses to run as root; whoever runs it must get to its files
    home = Home(root / "home")
    (home.root / "schedules").mkdir(parents=True)
    (home.root / "schedules" / "shop.yaml").write_text(
        f"schedule: events\ndataset: taobao\nname: shop\nraw: {taobao_log}\nmodels: [popularity]\n"
    )
    cluster = Postgres(root / "servers")
    server = Home(root / "server")
    where = HomeSettings.resolve({"home": home.root}, use_environment=False)
    try:
        port = cluster.start(None)
        _create_database(cluster, port, "mlflow")
        tracking = f"http://{HOST}:{any_free()}"
        mlflow_server.start(server, cluster.uri(port, "mlflow"), int(tracking.rpartition(":")[2]))
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
                patch.delenv(name)
            for name, value in {**TRAIN, "HMAR_TRACKING_URI": tracking}.items():
                patch.setenv(name, value)
            patch.setenv(airflow.DATABASE_VARIABLE, cluster.uri(port))
            mlflow_server.wait(server, tracking, time.monotonic() + 120)
            settings = UpSettings.resolve({"home": home.root, "retry_seconds": 1}, use_environment=False)
            state = control.up(settings, quiet())
        with control.client(home) as api:
            yield Services(home, control.State(state.airflow_port, int(tracking.rpartition(":")[2])), api)
    finally:
        control.down(where, quiet())
        stop([mlflow_server.daemon(server)])
        cluster.stop()
        shutil.rmtree(root, ignore_errors=True)


def test_published_events_start_the_retraining_and_it_ends_with_a_champion(
    services: Services, taobao_log: Path
) -> None:
    from mlflow import MlflowClient

    api = services.api
    assert not (services.home.airflow / "airflow.db").exists()
    assert not (services.home.root / "mlflow.db").exists()
    ingested = finish(api, {"dataset": "taobao", "name": "shop", "raw": str(taobao_log)}, "hmar_ingest")
    (event,) = api.get("/api/v2/assets/events")["asset_events"]
    published = api.result("hmar_ingest", ingested, "validate")
    assert event["uri"] == "hmar://events/shop"
    assert event["extra"]["digest"] == published["digest"]
    assert event["extra"]["rows"] == published["accounts"]["rows"]

    (run_id,) = wait_for("the asset started nothing", lambda: run_ids(api, "hmar_retrain_shop"), 60)
    assert settled(api, "hmar_retrain_shop", run_id) == "success", failures(api, "hmar_retrain_shop", run_id)
    assert api.result("hmar_retrain_shop", run_id, "ingest")["reused"]
    promoted = api.result("hmar_retrain_shop", run_id, "promote")
    client = MlflowClient(services.state.mlflow, registry_uri=services.state.mlflow)
    champion = client.get_model_version_by_alias(promoted["name"], "champion")
    assert str(champion.version) == promoted["champion"]


def test_a_cluster_of_our_own_serves_airflow() -> None:
    try:
        find_programs()
    except ServiceError as error:
        pytest.skip(str(error))
    root = Path(tempfile.mkdtemp(prefix="hmar-postgres-"))
    root.chmod(0o755)
    where = HomeSettings.resolve({"home": root / "home"}, use_environment=False)
    settings = UpSettings.resolve({"home": root / "home", "database": "postgres"}, use_environment=False)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
                patch.delenv(name)
            state = control.up(settings, quiet())
        assert state.postgres_port
        assert not (settings.paths.airflow / "airflow.db").exists()
        assert wait_for("not all services are healthy", lambda: control.status(where, quiet()), seconds=240)
    finally:
        control.down(where, quiet())
        shutil.rmtree(root, ignore_errors=True)


def _create_database(cluster: Postgres, port: int, name: str) -> None:
    import psycopg

    address = cluster.uri(port, "postgres").replace("+psycopg", "")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"create database {name}")
