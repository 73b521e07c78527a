"""``hmar up``, ``status`` and ``down``: whole, found again, healed, and gone to the last process."""

import configparser
import io
import socket
from pathlib import Path

import httpx
import psutil
import pytest
from rich.console import Console

from pipeline.services import airflow, control, mlflow_server
from pipeline.services.daemon import processes
from pipeline.services.settings import HomeSettings, UpSettings
from tests.integration.conftest import quiet
from tests.support.airflow_runs import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def listening(family: set[psutil.Process]) -> set[str]:
    """Addresses that these processes listen on."""
    found = set()
    for process in family:
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                found.add(connection.laddr.ip)
    return found


def test_up_is_found_again_heals_and_comes_down_whole(tmp_path: Path) -> None:
    settings = UpSettings.resolve({"home": tmp_path, "database": "sqlite"}, use_environment=False)
    where = HomeSettings.resolve({"home": tmp_path}, use_environment=False)
    daemons = [*airflow.daemons(settings.paths), mlflow_server.daemon(settings.paths)]
    said = io.StringIO()
    try:
        state = control.up(settings, Console(file=said, width=200))
        assert state.airflow in said.getvalue()
        assert state.mlflow in said.getvalue()
        assert airflow.password(settings.paths) in said.getvalue()
        assert control.status(where, quiet())
        assert listening(processes(daemons)) == {"127.0.0.1"}
        with control.client(settings.paths) as api:
            assert api.get("/api/v2/pools/gpu")["slots"] == 1
        assert httpx.get(f"{state.airflow}/api/v2/dags").status_code == 401
        known = _options()
        config = configparser.ConfigParser(interpolation=None)
        config.read(settings.paths.airflow / "airflow.cfg")
        assert {(part, key) for part in config.sections() for key in config[part]} <= known

        before = {daemon.name: daemon.process() for daemon in daemons}
        assert control.up(settings, quiet()) == state
        assert {daemon.name: daemon.process() for daemon in daemons} == before

        scheduler = before["airflow-scheduler"]
        assert scheduler is not None
        workers = scheduler.children()
        assert workers
        scheduler.kill()
        wait_for("the scheduler still runs", lambda: not scheduler.is_running() or scheduler.status() == "zombie")
        assert not control.status(where, quiet())
        assert control.up(settings, quiet()) == state
        assert not any(worker.is_running() for worker in workers)
        assert control.status(where, quiet())
        assert airflow.daemons(settings.paths)[-1].process() == before["airflow-api-server"]
    finally:
        family = processes(daemons)
        control.down(where, quiet())
    assert family
    left = [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert left == []
    assert processes(daemons) == set()
    for port in (state.airflow_port, state.mlflow_port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert control.down(where, quiet()) == 0


def _options() -> set[tuple[str, str]]:
    from airflow.configuration import conf

    return {(part, key) for part, text in conf.configuration_description.items() for key in text["options"]}
