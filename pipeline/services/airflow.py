"""Airflow for one data directory: its airflow.cfg, its three processes, and what they need to know.

The processes are started one by one and not by ``airflow standalone``: that one never restarts a component that died,
and opens two log servers on every network interface.
"""

import base64
import configparser
import io
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

from hmar.errors import ServiceError
from pipeline.home import Home
from pipeline.services.daemon import MARK, Daemon, stop
from pipeline.services.ports import HOST, any_free
from pipeline.services.settings import UpSettings
from pipeline.storage.atomic import write_text

USER = "admin"
BUNDLE = "hmar"
DATABASE_VARIABLE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"

_PACKAGE = Path(__file__).resolve().parent.parent

COMPONENTS = {
    # --skip-serve-logs: on one machine the pages read the log files; the log servers would listen on every interface.
    "airflow-scheduler": ["scheduler", "--skip-serve-logs"],
    "airflow-dag-processor": ["dag-processor"],
    "airflow-api-server": ["api-server"],
}


def daemons(home: Home) -> list[Daemon]:
    """Airflow's processes. No triggerer: nothing here defers."""
    return [Daemon(name, home.services) for name in COMPONENTS]


def dags_directory() -> Path:
    """The DAGs: beside the packages in a checkout, inside this one in an installed wheel."""
    for candidate in (_PACKAGE / "dags", _PACKAGE.parent / "dags"):
        if candidate.is_dir():
            return candidate
    raise ServiceError(f"dags/ stands neither in {_PACKAGE} nor beside it; the installation is broken")


def configure(s: UpSettings, port: int, database: str) -> Path:
    """Write ``airflow.cfg``, so that any ``airflow`` command with this AIRFLOW_HOME means this Airflow.

    Secrets are made once and kept; the directory is for the owner's eyes.

    Returns:
        The file.
    """
    file = s.paths.airflow / "airflow.cfg"
    kept = configparser.ConfigParser(interpolation=None)
    kept.read(file, encoding="utf-8")
    bundles = [
        {
            "name": BUNDLE,
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(dags_directory()), "refresh_interval": 30},
        }
    ]
    content: dict[str, dict[str, Any]] = {
        "core": {
            "dags_folder": dags_directory(),
            "load_examples": False,
            "dags_are_paused_at_creation": False,
            "executor": "LocalExecutor",
            "parallelism": s.parallelism,
            "fernet_key": kept.get("core", "fernet_key", fallback=_fernet_key()),
            "simple_auth_manager_users": f"{USER}:admin",
            "simple_auth_manager_passwords_file": passwords_file(s.paths),
            "simple_auth_manager_all_admins": not s.login,
        },
        "api": {
            "host": HOST,
            "port": port,
            # Tasks talk to the API too; they would look for it on port 8080.
            "base_url": f"http://{HOST}:{port}",
            "workers": 1,
            "instance_name": "hmar",
            "secret_key": kept.get("api", "secret_key", fallback=secrets.token_hex(16)),
        },
        "api_auth": {"jwt_secret": kept.get("api_auth", "jwt_secret", fallback=secrets.token_hex(32))},
        "dag_processor": {"dag_bundle_config_list": json.dumps(bundles), "min_file_process_interval": 30},
        "logging": {"worker_log_server_port": any_free(), "trigger_log_server_port": any_free()},
        # A task whose supervisor was killed is noticed and retried after this many seconds.
        "scheduler": {"task_instance_heartbeat_timeout": 60, "orphaned_tasks_check_interval": 30},
    }
    if database:
        content["database"] = {"sql_alchemy_conn": database, "sql_alchemy_conn_async": database}
    parser = configparser.ConfigParser(interpolation=None)
    # Airflow interpolates: a literal % is doubled.
    parser.read_dict({part: {k: str(v).replace("%", "%%") for k, v in keys.items()} for part, keys in content.items()})
    file.parent.mkdir(parents=True, exist_ok=True)
    file.parent.chmod(0o700)
    text = io.StringIO()
    parser.write(text)
    write_text(file, text.getvalue())
    return file


def passwords_file(home: Home) -> Path:
    return home.airflow / "passwords.json"


def password(home: Home) -> str:
    """The password of user admin; made on first use."""
    file = passwords_file(home)
    try:
        return str(json.loads(file.read_text(encoding="utf-8"))[USER])
    except (OSError, ValueError, KeyError):
        made = secrets.token_urlsafe(12)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    file.write_text(json.dumps({USER: made}), encoding="utf-8")
    return made


def environment(s: UpSettings) -> dict[str, str]:
    """What Airflow's processes, and the tasks below them, are started with."""
    given = os.environ
    path = [str(_PACKAGE.parent), *filter(None, given.get("PYTHONPATH", "").split(os.pathsep))]
    local = ",".join(filter(None, [given.get("NO_PROXY", ""), HOST, "localhost"]))
    values = {
        **given,
        "AIRFLOW_HOME": str(s.paths.airflow),
        "HMAR_HOME": str(s.paths.root),
        "HMAR_RETRY_SECONDS": str(s.retry_seconds),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), given.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": local,
        "no_proxy": local,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "NO_COLOR": "1",
    }
    connection = given.get(DATABASE_VARIABLE, "")
    if connection.startswith("postgresql+psycopg:"):
        # Without it Airflow looks for asyncpg; psycopg does both.
        values.setdefault(f"{DATABASE_VARIABLE}_ASYNC", connection)
    return values


def migrate(s: UpSettings) -> None:
    """Create or upgrade the tables of Airflow's database.

    Raises:
        ServiceError: Airflow's last words.
    """
    done = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env={**environment(s), MARK: f"{s.paths.services}:migrate"},
        cwd=s.paths.services,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    (s.paths.services / "airflow-migrate.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode:
        words = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise ServiceError(f"airflow db migrate: {words[-1] if words else 'no message'}")


def start(s: UpSettings) -> list[str]:
    """Start what does not run; returns the names of what was started."""
    started = []
    for daemon in daemons(s.paths):
        if daemon.process() is None:
            stop([daemon])  # what a component that died may have left: its workers
            daemon.start([sys.executable, "-m", "airflow", *COMPONENTS[daemon.name]], environment(s))
            started.append(daemon.name)
    return started


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
