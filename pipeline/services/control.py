"""``hmar up``, ``hmar down`` and ``hmar status``."""

import json
import os
import time
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from hmar.errors import ServiceError
from pipeline.home import Home
from pipeline.services import airflow, mlflow_server
from pipeline.services.client import AirflowClient, wait_until_ready
from pipeline.services.daemon import Daemon, processes, stop
from pipeline.services.ports import HOST, choose
from pipeline.services.postgres import Postgres
from pipeline.services.settings import HomeSettings, UpSettings
from pipeline.storage.atomic import write_json
from pipeline.storage.lock import dataset_lock

DAGS = ["hmar_retrain", "hmar_ingest"]
POOL = "gpu"


@dataclass(frozen=True)
class State:
    """Where the services of a home are, remembered between commands (``services/services.json``)."""

    airflow_port: int = 0
    mlflow_port: int = 0
    postgres_port: int = 0
    login: bool = True

    @property
    def airflow(self) -> str:
        return f"http://{HOST}:{self.airflow_port}"

    @property
    def mlflow(self) -> str:
        return f"http://{HOST}:{self.mlflow_port}"


def up(s: UpSettings, console: Console) -> State:
    """Start what does not run, wait until everything answers, print the addresses.

    Raises:
        ServiceError: something does not start; which, and its log.
        BusyError: another ``hmar up`` is at it.
    """
    home = s.paths
    with dataset_lock(home.lock("services"), "hmar up"):
        deadline = time.monotonic() + s.wait_seconds
        before = read_state(home)
        store = _mlflow_store(home)
        dead = [one for one in airflow.daemons(home) if one.process() is None]
        whole = not dead
        state = State(
            airflow_port=_port(s.airflow_port, before.airflow_port, 8080, keep=len(dead) < len(airflow.daemons(home))),
            mlflow_port=_port(s.mlflow_port, before.mlflow_port, 5000, keep=_alive(mlflow_server.daemon(home))),
            postgres_port=before.postgres_port,
            login=before.login if whole else s.login,
        )
        _write_state(home, state)
        if store and not _alive(mlflow_server.daemon(home)):
            mlflow_server.start(home, store, state.mlflow_port)
        airflow.password(home)
        if not whole:
            database, postgres_port = _database(s, before, console)
            state = State(**{**asdict(state), "postgres_port": postgres_port})
            _write_state(home, state)
            airflow.configure(s, state.airflow_port, database)
            airflow.migrate(s)
            airflow.start(s)
        with client(home) as api:
            wait_until_ready(api, DAGS, deadline, lambda: _all_alive(airflow.daemons(home)))
            api.set_pool(POOL, s.gpu_slots, "Accelerators: what trains or scores takes a slot")
        if store:
            mlflow_server.wait(home, state.mlflow, deadline)
    _print_addresses(home, state, console)
    return state


def down(s: HomeSettings, console: Console) -> int:
    """End every process of this home's services; returns how many there were."""
    home = s.paths
    scheduler, *others = airflow.daemons(home)
    # The scheduler first: tasks that are stopped with it can still tell the API, so that they are tried again.
    count = stop([scheduler])
    count += stop([*others, mlflow_server.daemon(home)])
    count += Postgres(home.services).stop()
    console.print(f"stopped {count} processes" if count else "nothing was running")
    return count


def status(s: HomeSettings, console: Console) -> bool:
    """Print what runs; True if all of it does and is healthy."""
    home, state = s.paths, read_state(s.paths)
    health: dict[str, str] = {}
    if _alive(airflow.daemons(home)[-1]):
        try:
            with client(home) as api:
                health = api.health()
        except ServiceError as error:
            health = {"airflow": str(error)}
    rows: list[tuple[Daemon, str, str]] = []
    for daemon in airflow.daemons(home):
        part = daemon.name.removeprefix("airflow-").replace("-", "_")
        answers = "healthy" if part == "api_server" and "scheduler" in health else "does not answer"
        rows.append((daemon, health.get(part, answers), state.airflow if part == "api_server" else ""))
    if _mlflow_store(home):
        answers = "healthy" if mlflow_server.is_healthy(state.mlflow) else "does not answer"
        rows.append((mlflow_server.daemon(home), answers, state.mlflow))
    if Postgres(home.services).exists():
        rows.append((Postgres(home.services).daemon, "healthy", f"{HOST}:{state.postgres_port}"))
    table = Table("service", "state", "process", "processes", "address", box=None)
    good = True
    for daemon, condition, address in rows:
        process = daemon.process()
        good = good and process is not None and condition == "healthy"
        shown = condition if process else "stopped"
        pid = str(process.pid) if process else ""
        # What is stopped has no address: the port of the last time may be another's by now, or there was none.
        table.add_row(daemon.name, shown, pid, str(len(processes([daemon])) or ""), address if process else "")
    console.print(table)
    return good


def client(home: Home) -> AirflowClient:
    """Speaks to this home's Airflow.

    Raises:
        ServiceError: it was never started.
    """
    state = read_state(home)
    if not state.airflow_port:
        raise ServiceError(f"airflow: nothing was started for {home.root}; run: hmar up --home {home.root}")
    user = (airflow.USER, airflow.password(home)) if state.login else ("", "")
    return AirflowClient(state.airflow, *user)


def read_state(home: Home) -> State:
    """What the last ``hmar up`` decided; all zero before the first."""
    try:
        return State(**json.loads((home.services / "services.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return State()


def _write_state(home: Home, state: State) -> None:
    write_json(home.services / "services.json", asdict(state))


def _port(asked: int, before: int, usual: int, *, keep: bool) -> int:
    return before if keep and before else choose(asked, before, usual)


def _alive(daemon: Daemon) -> bool:
    return daemon.process() is not None


def _all_alive(daemons: list[Daemon]) -> None:
    for daemon in daemons:
        if not _alive(daemon):
            raise _Died(f"{daemon.name}: died ({daemon.last_words(1)}); its log is {daemon.log}")


class _Died(ServiceError):
    """Nothing more to wait for."""


def _database(s: UpSettings, before: State, console: Console) -> tuple[str, int]:
    """Airflow's database address ('' for SQLite or the environment's) and the port of our cluster, if it is that."""
    if os.environ.get(airflow.DATABASE_VARIABLE) or s.database == "sqlite":
        return "", 0
    cluster = Postgres(s.paths.services)
    if s.database == "auto" and not cluster.exists() and (s.paths.airflow / "airflow.db").exists():
        return "", 0
    try:
        port = cluster.start(before.postgres_port or None)
    except ServiceError as error:
        if s.database == "postgres":
            raise
        console.print(f"Airflow keeps its state in SQLite ({error})", style="dim", highlight=False)
        return "", 0
    return cluster.uri(port), port


def _mlflow_store(home: Home) -> str:
    """The database that the MLflow server is to serve; '' if there is a server elsewhere already."""
    uri = os.environ.get("HMAR_TRACKING_URI") or home.mlflow_uri
    return "" if uri.startswith(("http://", "https://")) else uri


def _print_addresses(home: Home, state: State, console: Console) -> None:
    login = f"user {airflow.USER}, password {airflow.password(home)}" if state.login else "no login"
    lines = [f"Airflow  {state.airflow}  ({login})"]
    if _mlflow_store(home):
        lines.append(f"MLflow   {state.mlflow}")
    lines.append(f"Logs     {home.services}")
    lines.append(f"airflow commands: export AIRFLOW_HOME={home.airflow}")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def up_main(arguments: list[str]) -> int:
    """Command line of ``hmar up``."""
    up(UpSettings.resolve(arguments=arguments, use_environment=False, program="hmar up"), Console())
    return 0


def down_main(arguments: list[str]) -> int:
    """Command line of ``hmar down``."""
    down(HomeSettings.resolve(arguments=arguments, use_environment=False, program="hmar down"), Console())
    return 0


def status_main(arguments: list[str]) -> int:
    """Command line of ``hmar status``: exit code 1 if anything is not healthy."""
    settings = HomeSettings.resolve(arguments=arguments, use_environment=False, program="hmar status")
    return 0 if status(settings, Console()) else 1
