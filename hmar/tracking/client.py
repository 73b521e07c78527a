"""Reaching the MLflow store, or saying quickly and in one line why not."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hmar.errors import ServiceError, SettingsError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LIBRARIES = ("mlflow", "sqlalchemy", "requests", "urllib3", "alembic", "sqlite3")

CONNECT_SECONDS = 5
"""How long one attempt to reach a server may take."""

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Defaults of ours for MLflow's own variables; what the user has set stays."""


def connect(uri: str) -> "MlflowClient":
    """A client of the store at ``uri``, proved to answer; an SQLite store is created where there is none.

    Tracking and registry of the process are pointed at ``uri`` too, so nothing lands in ./mlruns by accident.

    Raises:
        ServiceError: it does not answer within about 15 seconds.
        SettingsError: the address is of no kind that MLflow knows.
    """
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    check(uri)

    import mlflow
    from mlflow import MlflowClient

    # Table creation and migrations are no news; MLflow sets its loggers up on import, so their level comes after it.
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    with service_errors(uri), _one_creator(uri):
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    return client


def check(uri: str) -> None:
    """Try to reach ``uri`` without MLflow's long retries.

    Raises:
        ServiceError: it does not answer. SettingsError: an address MLflow does not know.
    """
    scheme = urlsplit(uri).scheme
    if scheme in ("http", "https"):
        _check_http(uri)
    elif scheme == "sqlite":
        _check_sqlite(uri)
    elif scheme.split("+")[0] in ("postgresql", "mysql", "mssql"):
        _check_database(uri)
    else:
        raise SettingsError(
            f"tracking.uri: {uri!r} is no address of an MLflow store; give sqlite:///FILE, postgresql://... or http://..."
        )


def sqlite_file(uri: str) -> Path | None:
    """The file behind an ``sqlite:///`` address; None for other stores."""
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None


@contextmanager
def service_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow, its database or its HTTP client raise into one line that names the address."""
    try:
        yield
    except Exception as error:
        if type(error).__module__.split(".")[0] in (
            "mlflow",
            "sqlalchemy",
            "requests",
            "urllib3",
            "alembic",
            "sqlite3",
        ):
            raise _unreachable(uri, error) from error
        raise


def _unreachable(uri: str, error: Exception) -> ServiceError:
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    reason = lines[0] if lines else type(cause).__name__
    return ServiceError(f"MLflow at {public(uri)}: {reason}; check that it runs and that tracking.uri is right")


def public(uri: str) -> str:
    """The address without a password."""
    parts = urlsplit(uri)
    return uri.replace(f":{parts.password}@", ":***@") if parts.password else uri


def _check_http(uri: str) -> None:
    import httpx

    try:
        response = httpx.get(uri.rstrip("/") + "/health", timeout=CONNECT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(uri, error) from None
    if response.status_code >= 500:
        raise ServiceError(f"MLflow at {public(uri)}: answers {response.status_code}; look at the server's log")


def _check_sqlite(uri: str) -> None:
    import sqlite3

    path = sqlite_file(uri)
    if path is None:
        raise SettingsError(f"tracking.uri: {uri!r} has too few slashes; give sqlite:///FILE")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=CONNECT_SECONDS)
        try:
            connection.execute("pragma schema_version").fetchone()
        finally:
            connection.close()
    except (OSError, sqlite3.Error) as error:
        raise _unreachable(uri, error) from None


def _check_database(uri: str) -> None:
    import sqlalchemy

    timeout = {"connect_timeout": CONNECT_SECONDS} if urlsplit(uri).scheme.startswith(("postgresql", "mysql")) else {}
    try:
        engine = sqlalchemy.create_engine(uri, connect_args=timeout)
        try:
            engine.connect().close()
        finally:
            engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        raise _unreachable(uri, error) from None


@contextmanager
def _one_creator(uri: str) -> Iterator[None]:
    """Two processes that create the tables of one SQLite file at once would both fail."""
    path = sqlite_file(uri)
    if path is None:
        yield
        return
    from filelock import FileLock

    with FileLock(path.with_name(path.name + ".lock")):
        yield
